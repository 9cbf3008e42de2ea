"""`POST /v1/chat/completions` in raw ASGI: the caller's bytes in, the vendor's bytes out."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from starlette.types import Receive, Scope, Send

from api.edge.asgi import JSON, Gone, Headers, error_headers, header, read_body, respond, start_of_events
from api.edge.bearer import caller_of
from api.edge.render import error_event, internal_error, openai_body
from api.errors import ApiError, forbidden, unavailable
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
BROKEN_OFF = "The model's provider broke off its answer. You were charged only for what you received."
STOPPING = "The server is stopping. You were charged only for what you received; try again."
_LONGEST_LABEL = 64


async def chat_completions(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one chat request, whole or streamed; every refusal has its documented status and body."""
    services: Services = scope["app"].state.services
    admitted: Admission | None = None
    stream: Stream | None = None
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
        if stream is not None:
            await stream.end()
        else:
            await respond(send, 200, found.body, _headers(admission, JSON))
    except Gone:
        return
    except Exception as error:
        refusal = _refusal(error)
        if stream is not None and stream.started:
            await stream.end(refusal)
            return
        ids = _ids(admitted) if admitted else [(b"x-request-id", b"req_" + new_id().hex.encode())]
        await respond(send, refusal.status, openai_body(refusal), [JSON, *ids, *error_headers(refusal)])


class Stream:
    """One answer going out as events: headers with the first block, comments while it keeps us waiting."""

    def __init__(self, admission: Admission, send: Send) -> None:
        self._admission, self._send = admission, send
        self._settings = admission.services.settings
        self._failure: ApiError | None = None
        self.started = False
        """Whether the status has left."""
        self._left = False
        self._watching = False
        self._sending = False
        self._quiet_since = self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self, receive: Receive) -> None:
        """Send the blocks as they come.

        Raises ProviderError or ApiError only while nothing has been sent, so that a refusal keeps its status.
        When the client leaves, the vendor's connection is closed within the same turn of the loop; a client
        that takes nothing more has left at the request's deadline.
        """
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        watcher = loop.create_task(_until_gone(receive))
        watcher.add_done_callback(self._on_gone)
        self._watching = True
        self._quiet_since = loop.time()
        self._deadline = self._quiet_since + self._settings.request_deadline
        self._timer = loop.call_later(self._settings.first_block_wait, self._on_quiet)
        try:
            async with aclosing(blocks(self._admission)) as stream:
                async for block in stream:
                    self._quiet_since = loop.time()
                    self._sending = True
                    if self._comment is not None:
                        await self._comment
                        self._comment = None
                    await self._put(block)
                    self._sending = False
        except ProviderError as error:
            if not self.started:
                raise
            self._admission.attempt.failed(error)
            self._failure = self._as_told(error.refusal)
        except asyncio.CancelledError as error:
            if self._task is None:
                raise
            self._task.uncancel()
            if not self._left:  # the server was told to stop and has waited as long as it may
                self._failure = unavailable("service_unavailable", STOPPING)
                if not self.started:
                    raise self._failure from error
            self._admission.attempt.failed(self._failure or error)
        finally:
            self._watching = False
            self._timer.cancel()
            watcher.cancel()
            if self._comment is not None:
                self._comment.cancel()

    async def end(self, failure: ApiError | None = None) -> None:
        """Say how it ended, after the money is settled: `[DONE]`, or an error event and no `[DONE]`."""
        if self._left:
            return
        failure = failure or self._failure
        if not self.started:
            await self._put(b"")
        await self._send({"type": "http.response.body", "body": error_event(failure) if failure else DONE})

    async def _put(self, block: bytes) -> None:
        if not self.started:
            self.started = True
            try:
                await self._send(start_of_events(_headers(self._admission)))
            except asyncio.CancelledError:
                self.started = False
                raise
        await self._send({"type": "http.response.body", "body": block, "more_body": True})

    def _as_told(self, refusal: ApiError) -> ApiError:
        """A vendor's failure in a sentence that is true of the money when a part of the answer was sent."""
        attempt = self._admission.attempt
        if refusal.status < 500 or not attempt.has_begun or attempt.broke_off_unsaid:
            return refusal
        return ApiError(refusal.status, refusal.code, BROKEN_OFF, type=refusal.type)

    def _on_gone(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled():
            self._give_up()

    def _give_up(self) -> None:
        """Nobody is there to answer."""
        if self._watching and self._task is not None:
            self._left = True
            self._task.cancel()

    def _on_quiet(self) -> None:
        """Nothing was sent for a while: tell the client that we are still here, unless it does not listen."""
        loop = asyncio.get_running_loop()
        now, interval = loop.time(), self._settings.keep_alive_interval
        if self._sending or (self._comment is not None and not self._comment.done()):
            rest = min(interval, self._deadline - now)
            if rest <= 0.001:
                self._give_up()
                return
        else:
            rest = self._quiet_since - now + (interval if self.started else self._settings.first_block_wait)
            if rest <= 0.001:
                self._comment = loop.create_task(self._put(KEEP_ALIVE))
                self._quiet_since, rest = now, interval
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


def _refusal(error: Exception) -> ApiError:
    refusal = error.refusal if isinstance(error, ProviderError) else error
    if isinstance(refusal, ApiError):
        return refusal
    _log.error("unhandled", exc_info=error, extra={"path": ENDPOINT})
    return internal_error()
