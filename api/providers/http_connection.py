"""Owns one HTTP/1.1 connection to an upstream and the answer that comes over it.

A connection carries one exchange at a time. What one read of the socket delivers leaves at once as one block.
When the last byte of an answer has come the connection goes home, whether or not the answer has been read.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from api.providers.http_message import (
    ConnectionLost,
    ProtocolError,
    ReadTimeout,
    StallTimeout,
    Target,
    Timeouts,
    TotalTimeout,
    TransportError,
    UpstreamResponse,
    ends_with_connection,
)

HEAD_LIMIT = 64 * 1024  # bytes of status line, headers, trailers and chunk framing without a byte of body
HIGH_WATER = 256 * 1024  # bytes of body nobody has taken yet, above which the socket is not read
RACE_WINDOW = (
    2.0  # seconds within which a reused connection that dies unanswered was closed before our request
)
SEPARATE_WRITE = (
    64 * 1024
)  # bytes of request body above which copying it behind its head costs more than a write
TIMER_SLACK = 0.001  # seconds; event loops round their timers to milliseconds


class Home(Protocol):
    """The pool a connection belongs to."""

    def released(self, connection: Connection) -> None:
        """An answer has come whole and the connection can carry another exchange."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection is gone; said once."""
        ...


class PooledResponse(UpstreamResponse):
    """An answer on one of our own connections, which fills it."""

    __slots__ = ("_timeouts", "_total_at", "connection", "error", "parts", "size", "waiter")

    def __init__(self, connection: Connection, timeouts: Timeouts, total_at: float) -> None:
        self.status = 0
        self.headers = []
        self.connection: Connection | None = connection  # None once the exchange is over, well or badly
        self.error: TransportError | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.waiter: asyncio.Future[None] | None = None
        self._timeouts = timeouts
        self._total_at = total_at

    async def begun(self) -> None:
        """Returns when status and headers are here. Raises TransportError."""
        while not self.status:
            if self.connection is None:
                raise self.error or ConnectionLost("closed before the answer began")
            await self._wait(self.connection, self._timeouts.first_byte)

    async def __anext__(self) -> bytes:
        while not self.parts:
            if self.connection is None:
                raise self.error or StopAsyncIteration
            await self._wait(self.connection, self._timeouts.idle)
        parts, self.parts, self.size = self.parts, [], 0
        if self.connection is not None:
            self.connection.resume()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        self.parts.clear()
        if self.connection is not None:
            self.connection.close(ConnectionLost("closed by its reader"))

    async def _wait(self, connection: Connection, patience: float) -> None:
        connection.watch(min(connection.loop.time() + patience, self._total_at))
        self.waiter = connection.loop.create_future()
        try:
            await self.waiter
        except asyncio.CancelledError:
            connection.close(ConnectionLost("given up by its reader"))
            raise
        finally:
            self.waiter = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def end(self, error: TransportError | None) -> None:
        """Nothing more will come. Blocks that are here can still be read, and then the error is raised."""
        self.connection = None
        self.error = error
        self.wake()

    def expire(self, connection: Connection, now: float) -> None:
        """A deadline has passed. When nobody waits, the reader is slow and not the upstream."""
        if now + TIMER_SLACK >= self._total_at:
            connection.close(TotalTimeout("the exchange took too long"))
        elif self.waiter is None:
            connection.watch(self._total_at)
        elif self.status:
            connection.close(StallTimeout("no block came in time"))
        else:
            connection.close(ReadTimeout("no answer began in time"))


class Connection(asyncio.Protocol):
    """The socket's side: feeds the parser, keeps the one timer, knows whether it can be used again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.home: Home | None = None
        self.is_closed = False
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        self._response: PooledResponse | None = None
        self._exchanges = 0
        self._sent_at = 0.0
        self._bodiless = False  # the request was HEAD, whose answer ends with its headers
        self._heard = False  # a byte of this answer has come
        self._whole = False  # this answer's last byte has come
        self._reusable = False
        self._until_close = False  # this answer ends where the connection does
        self._unproductive = 0  # bytes read since the last byte of body
        self._paused = False
        self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def start(
        self, method: bytes, target: Target, headers: bytes, body: bytes, timeouts: Timeouts, total_at: float
    ) -> PooledResponse:
        """Writes the request and returns the response that its answer will fill."""
        self._response = response = PooledResponse(self, timeouts, total_at)
        self._exchanges += 1
        self._sent_at = self.loop.time()
        self._bodiless = method == b"HEAD"
        self._heard = self._whole = self._reusable = self._until_close = False
        self._unproductive = 0
        length = b"content-length: %d\r\n\r\n" % len(body) if body or method != b"GET" else b"\r\n"
        if len(body) > SEPARATE_WRITE:
            self._transport.write(b"".join((method, target.line, headers, length)))
            self._transport.write(body)
        else:
            self._transport.write(b"".join((method, target.line, headers, length, body)))
        return response

    def lost_the_race(self) -> bool:
        """Whether the upstream had closed this idle connection before the request came, and saw nothing."""
        return self._exchanges > 1 and not self._heard and self.loop.time() - self._sent_at < RACE_WINDOW

    def is_usable(self) -> bool:
        return not self.is_closed and not self._transport.is_closing()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def close(self, error: TransportError | None = None) -> None:
        """Closes the socket now. An answer under way ends here: cleanly, or with `error`."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        response, self._response = self._response, None
        if response is not None:
            response.end(error)
        if self.home is not None:
            self.home.closed(self)

    def watch(self, deadline: float) -> None:
        """Sets when patience ends. A timer due earlier stays: it will see then that it came too soon."""
        self._deadline = deadline
        if deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, inf
        now = self.loop.time()
        if self._deadline - now > TIMER_SLACK:
            self.watch(self._deadline)
        elif self._response is None:
            self.close()
        else:
            self._response.expire(self, now)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        complete = exc is None and self._until_close
        self.close(None if complete else ConnectionLost(f"closed by the upstream: {exc or 'end of file'}"))

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked: the next request must not take this for its answer
            self.close()
            return
        self._heard = True
        self._unproductive += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._reusable = False
            if not self._whole:
                cause = error.__context__
                self.close(
                    cause if isinstance(cause, TransportError) else ProtocolError(f"not HTTP: {error}")
                )
                return
        if self._whole:
            self._finish(response)
        elif response.parts:
            response.wake()
            if response.size > HIGH_WATER and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif self._unproductive > HEAD_LIMIT:
            self.close(ProtocolError(f"more than {HEAD_LIMIT} bytes of headers or framing"))

    def _finish(self, response: PooledResponse) -> None:
        self._response = None
        response.end(None)
        # An upstream that answers before it has read the whole request would read the rest as the next one.
        if self._reusable and self.home is not None and not self._transport.get_write_buffer_size():
            self.home.released(self)
        else:
            self.close()

    # What the parser calls. An exception here stops it, and the connection is not used again.

    def on_message_begin(self) -> None:
        if self._whole:
            raise ProtocolError("more than one answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None and not self._response.status:  # else it is a trailer
            self._response.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        response, status = self._response, self._parser.get_status_code()
        if response is None:
            return
        if status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            response.headers.clear()
            return
        if self._unproductive > HEAD_LIMIT and sum(len(n) + len(v) for n, v in response.headers) > HEAD_LIMIT:
            raise ProtocolError(f"more than {HEAD_LIMIT} bytes of headers")
        self._until_close = ends_with_connection(response.headers)
        response.status = status
        response.wake()
        if self._bodiless:
            self._whole = True
            raise ProtocolError("what follows a HEAD answer is not its body")

    def on_body(self, body: bytes) -> None:
        response = self._response
        if response is not None:
            self._unproductive = 0
            response.parts.append(body)
            response.size += len(body)

    def on_message_complete(self) -> None:
        if self._response is not None and self._response.status:
            self._whole = True
            self._reusable = self._parser.should_keep_alive()
