"""`POST /v1/chat/completions` in raw ASGI: the caller's bytes in, the vendor's bytes out."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from starlette.types import Receive, Scope, Send

from api.edge.asgi import JSON, Gone, Headers, error_headers, header, read_body, respond, start_of_events
from api.edge.bearer import caller_of
from api.edge.render import error_event, internal_error, openai_body
from api.errors import ApiError, forbidden
from api.gateway.admission import Admission
from api.gateway.pipeline import answer, blocks, whole
from api.gateway.services import Services
from api.money import credits_text
from api.providers.errors import ProviderError
from api.types import new_id
from api.wire.chat import parse

_log = logging.getLogger(__name__)

ENDPOINT = "/v1/chat/completions"
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
_LONGEST_LABEL = 64


async def chat_completions(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one chat request, whole or streamed; every refusal has its documented status and body."""
    services: Services = scope["app"].state.services
    admitted: Admission | None = None
    try:
        caller = await caller_of(services, scope)
        if not caller.may("llm"):
            raise forbidden("permission_denied", "This API key does not have the 'llm' permission.")
        request = parse(await read_body(scope, receive, services.settings.max_body_bytes))
        trace = tuple(header(scope, name)[:_LONGEST_LABEL] for name in (b"x-session-id", b"x-trace-id"))
        async with answer(
            services, caller, request, endpoint=ENDPOINT, trace=(trace[0], trace[1])
        ) as admission:
            admitted = admission
            if request.stream:
                stream = Stream(admission, send)
                await stream.run(receive)
            else:
                found = await whole(admission)
        if request.stream:
            await stream.end()
        else:
            await respond(send, 200, found.body, _headers(admission, JSON))
    except Gone:
        return
    except Exception as error:
        await _refuse(send, error, admitted)


class Stream:
    """One answer going out as events: headers with the first block, comments while it keeps us waiting."""

    def __init__(self, admission: Admission, send: Send) -> None:
        self._admission, self._send = admission, send
        self._settings = admission.services.settings
        self._failure: ApiError | None = None
        self._started = False
        self._left = False
        self._watching = False
        self._quiet_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None

    async def run(self, receive: Receive) -> None:
        """Send the blocks as they come.

        Raises ProviderError only while nothing has been sent, so that a refusal keeps its status. When the
        client leaves, the vendor's connection is closed within the same turn of the loop.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        watcher = loop.create_task(_until_gone(receive))
        watcher.add_done_callback(lambda done: self._on_gone(done, task))
        self._watching = True
        self._quiet_since = loop.time()
        self._timer = loop.call_later(self._settings.first_block_wait, self._on_quiet)
        try:
            async with aclosing(blocks(self._admission)) as stream:
                async for block in stream:
                    self._quiet_since = loop.time()
                    await self._put(block)
        except ProviderError as error:
            if not self._started:
                raise
            self._admission.attempt.failed(error)
            self._failure = error.refusal
        except asyncio.CancelledError as error:
            if not self._left or task is None:
                raise
            task.uncancel()
            self._admission.attempt.failed(error)
        finally:
            self._watching = False
            self._timer.cancel()
            watcher.cancel()

    async def end(self) -> None:
        """Say how it ended, after the money is settled: `[DONE]`, or an error event and no `[DONE]`."""
        if self._left:
            return
        last = error_event(self._failure) if self._failure else DONE
        if not self._started:
            await self._put(b"")
        await self._send({"type": "http.response.body", "body": last})

    async def _put(self, block: bytes) -> None:
        if not self._started:
            self._started = True
            await self._send(start_of_events(_headers(self._admission)))
        await self._send({"type": "http.response.body", "body": block, "more_body": True})

    def _on_gone(self, watcher: asyncio.Task[None], task: asyncio.Task[None] | None) -> None:
        if self._watching and not watcher.cancelled() and task is not None:
            self._left = True
            task.cancel()

    def _on_quiet(self) -> None:
        """The vendor has been silent: tell the client that we are still here."""
        loop = asyncio.get_running_loop()
        every = self._settings.keep_alive_interval if self._started else self._settings.first_block_wait
        rest = self._quiet_since + every - loop.time()
        if rest <= 0.001:
            self._comment = loop.create_task(self._put(KEEP_ALIVE))
            self._quiet_since, rest = loop.time(), self._settings.keep_alive_interval
        self._timer = loop.call_later(rest, self._on_quiet)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(admission: Admission, *more: tuple[bytes, bytes]) -> Headers:
    headers = [*more, *_ids(admission)]
    if admission.charged is not None:
        headers.append((b"x-credits-charged", credits_text(admission.charged).encode()))
    return headers


def _ids(admission: Admission) -> Headers:
    return [
        (b"x-request-id", b"req_" + admission.id.hex.encode()),
        (b"x-generation-id", admission.answer_id.encode()),
    ]


async def _refuse(send: Send, error: Exception, admitted: Admission | None) -> None:
    refusal = error.refusal if isinstance(error, ProviderError) else error
    if not isinstance(refusal, ApiError):
        _log.error("unhandled", exc_info=error, extra={"path": ENDPOINT})
        refusal = internal_error()
    ids = _ids(admitted) if admitted else [(b"x-request-id", b"req_" + new_id().hex.encode())]
    await respond(send, refusal.status, openai_body(refusal), [JSON, *ids, *error_headers(refusal)])
