"""One request from admission to settlement, in the order it reads.

Everything that spends enters here: the API's routes, the playground, and whatever answers for a bot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import msgspec

from api.catalog.catalog import Target
from api.gateway.admission import Admission, admit
from api.gateway.routing import route
from api.gateway.services import Services
from api.providers.errors import ProviderError, of_body, of_garbage, of_transport
from api.providers.openai_wire import open_chat
from api.providers.transport import Timeouts, TransportError, UpstreamResponse
from api.types import Caller
from api.wire.answer import NoAnswer, Whole, rewrite
from api.wire.chat import ChatRequest
from api.wire.relay import BrokenStream, Relay

ANSWER_LIMIT = 33_554_432
"""Bytes of a whole answer; a longer one is a fault."""

AFTERGLOW = 0.25
"""Seconds a vendor gets after `[DONE]` to end its response, so that the connection can serve again."""


def answer(
    services: Services,
    caller: Caller,
    request: ChatRequest,
    *,
    endpoint: str,
    trace: tuple[str, str] = ("", ""),
) -> Admission:
    """One request, to be used as `async with answer(…) as admission`: entering admits it, inside one reads
    `whole(admission)` or `blocks(admission)`, leaving settles.

    Raises ApiError, here or on entering, when the request may not run; nothing is held or charged then.
    """
    chosen = route(services.catalog, services.vendors, caller, request)
    return admit(services, caller, chosen, request, endpoint=endpoint, trace=trace)


async def whole(admission: Admission) -> Whole:
    """The answer in one piece, from the first target that gives one.

    Raises ProviderError when none does.
    """
    failure: ProviderError | None = None
    for target in admission.route.targets:
        try:
            return await _whole_from(admission, target)
        except ProviderError as error:
            failure = error
            if not error.retryable:
                break
    raise failure or of_garbage()


async def blocks(admission: Admission) -> AsyncGenerator[bytes, None]:
    """The answer as blocks of whole events without `[DONE]`; other targets are tried until the first block.

    Raises ProviderError when no target answers, and also when a stream breaks after its first block: the
    caller must then be told, never left with what looks like an end.
    """
    failure: ProviderError | None = None
    for target in admission.route.targets:
        try:
            async with aclosing(_blocks_from(admission, target)) as stream:
                async for block in stream:
                    yield block
            return
        except ProviderError as error:
            failure = error
            if admission.attempt.has_begun or not error.retryable:
                break
    raise failure or of_garbage()


async def _open(admission: Admission, target: Target) -> UpstreamResponse:
    services, attempt = admission.services, admission.attempt
    attempt.target, attempt.count = target, attempt.count + 1
    settings = services.settings
    remaining = settings.request_deadline - (time.monotonic() - attempt.started_at)
    timeouts = Timeouts(
        connect=settings.connect_timeout,
        first_byte=max(0.001, remaining),
        idle=settings.stall_timeout,
        total=max(0.001, remaining),
    )
    return await open_chat(services.transport, services.vendors, target, admission.request, timeouts)


async def _whole_from(admission: Admission, target: Target) -> Whole:
    response = await _open(admission, target)
    async with response:
        try:
            body = await response.read(ANSWER_LIMIT)
        except TransportError as error:
            raise of_transport(error) from error
    try:
        found = rewrite(body, admission.answer_id, admission.route.model.id)
    except NoAnswer as error:
        raise of_body(error.error) if error.error else of_garbage() from error
    admission.attempt.whole = found
    admission.attempt.first_byte_at = time.monotonic()
    return found


async def _blocks_from(admission: Admission, target: Target) -> AsyncGenerator[bytes, None]:
    attempt, model = admission.attempt, admission.route.model
    response = await _open(admission, target)
    relay = Relay(admission.answer_id, model.id, include_usage=admission.request.include_usage)
    async with response:
        try:
            async for block in _read(response, relay):
                if attempt.first_byte_at is None:
                    attempt.first_byte_at, attempt.relay = time.monotonic(), relay
                yield block
                if not await _is_covered(admission, relay):
                    attempt.error_code = "insufficient_credits"
                    relay.finish_reason = "length"
                    yield _stopped_for_money(admission)
                    return
        except TransportError as error:
            raise of_transport(error) from error
        except BrokenStream as error:
            raise of_garbage() from error
    if relay.error is not None:
        raise of_body(relay.error)
    if not relay.complete:
        raise of_garbage()


async def _read(response: UpstreamResponse, relay: Relay) -> AsyncIterator[bytes]:
    """The relay's blocks. What fails before anything was given gives nothing: another target may answer."""
    has_begun = False
    async for data in response:
        try:
            block = relay.feed(data)
        except BrokenStream as error:
            if has_begun and error.before:
                yield error.before
            raise
        if block and (has_begun or relay.error is None):
            has_begun = True
            yield block
        if relay.error is not None:
            return
        if relay.done:
            await _drain(response)
            return
    if block := relay.close():
        yield block


async def _is_covered(admission: Admission, relay: Relay) -> bool:
    """Whether the hold reaches for what was sent, extended slice by slice; an answer that is over needs none.

    One block may be worth many slices.
    """
    if relay.done or (relay.finish_reason and admission.request.choices == 1):
        return True
    while relay.tokens_sent > admission.covered_output:
        if not await admission.extend():
            return False
    return True


async def _drain(response: UpstreamResponse) -> None:
    try:
        async with asyncio.timeout(AFTERGLOW):
            async for _ in response:
                pass
    except (TransportError, TimeoutError):
        return


def _stopped_for_money(admission: Admission) -> bytes:
    """The last event of an answer the wallet could not carry further; `callmissed.reason` says so."""
    return (
        b"data: "
        + msgspec.json.encode(
            {
                "id": admission.answer_id,
                "object": "chat.completion.chunk",
                "created": (admission.id.int >> 80) // 1000,
                "model": admission.route.model.id,
                "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
                "callmissed": {"reason": "insufficient_credits"},
            }
        )
        + b"\n\n"
    )
