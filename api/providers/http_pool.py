"""Owns the connections to the upstreams: who gets one, who waits, how many there are, how long they idle."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from math import inf

from api.providers.http_connection import Connection, PooledResponse
from api.providers.http_message import (
    DEFAULT_TIMEOUTS,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HeaderBlock,
    Target,
    Timeouts,
)


class OriginPool:
    """The connections to one origin, the most recently used first."""

    def __init__(
        self, target: Target, ssl_context: ssl.SSLContext | None, limit: int, max_idle: float
    ) -> None:
        self._target = target
        self._ssl_context = ssl_context
        self._max_idle = max_idle
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._places = limit  # connections that may still be opened
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._queue: deque[asyncio.Future[Connection | None]] = (
            deque()
        )  # a turn is a connection, or a place for one

    def pop(self) -> Connection | None:
        """An idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def acquire(self, patience: float) -> Connection:
        """A new connection or, where there may be no more, the next to come free, within `patience` seconds.

        Raises ConnectError and ConnectTimeout.
        """
        try:
            async with asyncio.timeout(None if patience == inf else patience):
                while not self._places:
                    connection = await self._turn()
                    if connection is None:
                        return await self._connect()
                    if connection.is_usable():
                        return connection
                self._places -= 1
                return await self._connect()
        except TimeoutError as error:
            raise ConnectTimeout("no connection in time") from error

    def close(self) -> None:
        """Afterwards nothing is open and nobody waits."""
        self._closed = True
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(ConnectError("the transport was closed"))
        for connection in list(self._open):
            connection.close(ConnectionLost("the transport was closed"))

    def released(self, connection: Connection) -> None:
        if not connection.is_usable():
            connection.close()
        elif not self._give(connection):
            self._idle.append(connection)
            connection.watch(self._loop.time() + self._max_idle)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._give_place()

    def _give_place(self) -> None:
        if not self._give(None):
            self._places += 1

    def _give(self, what: Connection | None) -> bool:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(what)
                return True
        return False

    async def _turn(self) -> Connection | None:
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._queue.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled() or turn.exception() is not None:
                with suppress(ValueError):
                    self._queue.remove(turn)
            elif (given := turn.result()) is None:
                self._give_place()
            else:
                self.released(given)
            raise

    async def _connect(self) -> Connection:
        connection: Connection | None = None
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop),
                self._target.host,
                self._target.port,
                ssl=self._ssl_context,
                server_hostname=self._target.host if self._ssl_context else None,
            )
        except OSError as error:
            raise ConnectError(f"no connection: {error}") from error
        finally:
            if connection is None:
                self._give_place()
        if self._closed or not connection.is_usable():
            connection.close()
            self._give_place()
            raise ConnectError("closed as soon as it was open")
        connection.home = self
        self._open.add(connection)
        return connection


class OwnTransport:
    """The fast way to the upstreams: bytes in, bytes out, nothing allocated per request but its response.

    `ssl_context` replaces the system's certificate authorities. One event loop per transport.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connections_per_origin: int = 512,
        max_idle: float = 30.0,
    ) -> None:
        self._ssl_context = ssl_context
        self._limit = connections_per_origin
        self._max_idle = max_idle
        self._pools: dict[str, OriginPool] = {}
        self._closed = False

    async def send(
        self,
        method: bytes,
        target: Target,
        headers: HeaderBlock,
        body: bytes = b"",
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> PooledResponse:
        """As `Transport.send`; a request that meets a connection closed while idle is sent once more."""
        pool = self._pools.get(target.origin) or self._new_pool(target)
        total_at = asyncio.get_running_loop().time() + timeouts.total
        patience = min(timeouts.connect, timeouts.total)
        connection = pool.pop() or await pool.acquire(patience)
        response = connection.start(method, target, headers, body, timeouts, total_at)
        try:
            await response.begun()
        except ConnectionLost as lost:
            if not connection.lost_the_race():
                raise
            try:
                connection = await pool.acquire(patience)
            except (ConnectError, ConnectTimeout):
                raise lost from None  # of the two it is this one that may have reached the upstream
            response = connection.start(method, target, headers, body, timeouts, total_at)
            await response.begun()
        return response

    async def aclose(self) -> None:
        """As `Transport.aclose`; later requests are refused with ConnectError."""
        self._closed = True
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        await asyncio.sleep(0)  # the loop lets go of the sockets

    def _new_pool(self, target: Target) -> OriginPool:
        if self._closed:
            raise ConnectError("the transport is closed")
        if target.tls and self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        pool = OriginPool(target, self._ssl_context if target.tls else None, self._limit, self._max_idle)
        self._pools[target.origin] = pool
        return pool
