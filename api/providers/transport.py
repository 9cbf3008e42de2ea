"""Owns the choice of transport: our own, httpx2's in its place, and ours behind httpx2's interface.

Providers import from here only. Upstream addresses are the operator's: loopback and private ones are allowed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from math import inf
from typing import Literal, cast

import httpx2

from api.providers.http_message import (
    DEFAULT_TIMEOUTS,
    RESERVED,
    BodyTooLarge,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    EncodingRefused,
    HeaderBlock,
    InvalidRequest,
    ProtocolError,
    ReadTimeout,
    StallTimeout,
    Target,
    Timeouts,
    TotalTimeout,
    Transport,
    TransportError,
    UpstreamResponse,
    ends_with_connection,
    header_block,
)
from api.providers.http_pool import OwnTransport

__all__ = [
    "BodyTooLarge",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "EncodingRefused",
    "HeaderBlock",
    "HttpxTransport",
    "InvalidRequest",
    "OwnTransport",
    "PooledTransport",
    "ProtocolError",
    "ReadTimeout",
    "StallTimeout",
    "Target",
    "Timeouts",
    "TotalTimeout",
    "Transport",
    "TransportError",
    "UpstreamResponse",
    "header_block",
    "open_transport",
]

# The first match counts, so the special comes before the general.
_FROM_HTTPX: tuple[tuple[type[httpx2.TransportError], type[TransportError]], ...] = (
    (httpx2.ConnectTimeout, ConnectTimeout),
    (httpx2.PoolTimeout, ConnectTimeout),
    (httpx2.TimeoutException, ReadTimeout),
    (httpx2.ConnectError, ConnectError),
    (httpx2.NetworkError, ConnectionLost),
    (httpx2.LocalProtocolError, InvalidRequest),
    (httpx2.ProtocolError, ProtocolError),
    (httpx2.TransportError, ConnectError),
)
_TO_HTTPX: tuple[tuple[type[TransportError], type[httpx2.TransportError]], ...] = (
    (InvalidRequest, httpx2.LocalProtocolError),
    (ConnectError, httpx2.ConnectError),
    (ConnectTimeout, httpx2.ConnectTimeout),
    (ReadTimeout, httpx2.ReadTimeout),
    (StallTimeout, httpx2.ReadTimeout),
    (TotalTimeout, httpx2.ReadTimeout),
    (ConnectionLost, httpx2.ReadError),
    (TransportError, httpx2.RemoteProtocolError),
)


def open_transport(
    kind: Literal["own", "httpx"] = "own",
    *,
    ssl_context: ssl.SSLContext | None = None,
    connections_per_origin: int = 512,
    max_idle: float = 30.0,
) -> Transport:
    """The transport of this name. `ssl_context` replaces the system's authorities; `max_idle` is in seconds.

    httpx counts `connections_per_origin` over all origins together.
    """
    if kind == "own":
        return OwnTransport(
            ssl_context=ssl_context, connections_per_origin=connections_per_origin, max_idle=max_idle
        )
    limits = httpx2.Limits(
        max_connections=connections_per_origin,
        max_keepalive_connections=connections_per_origin,
        keepalive_expiry=max_idle,
    )
    return HttpxTransport(
        httpx2.AsyncHTTPTransport(verify=ssl_context or ssl.create_default_context(), limits=limits)
    )


class HttpxTransport:
    """Any httpx2 transport in the place of ours. It never sends a request a second time."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(
        self,
        method: bytes,
        target: Target,
        headers: HeaderBlock,
        body: bytes = b"",
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> UpstreamResponse:
        """As `Transport.send`."""
        lines = [line.partition(b": ") for line in headers.split(b"\r\n") if line]
        fields = [(name, value) for name, _, value in lines]
        patience = {"connect": timeouts.connect, "pool": timeouts.connect, "write": timeouts.first_byte}
        patience["read"] = timeouts.first_byte
        request = httpx2.Request(
            method.decode(),
            target.url,
            headers=[*fields, (b"accept-encoding", b"identity")],
            content=body,
            extensions={"timeout": patience},
        )
        total_at = asyncio.get_running_loop().time() + timeouts.total
        try:
            async with asyncio.timeout_at(None if total_at == inf else total_at):
                response = await self._transport.handle_async_request(request)
        except httpx2.TransportError as error:
            raise _from_httpx(error, ReadTimeout) from error
        except TimeoutError as error:
            raise TotalTimeout("the exchange took too long") from error
        patience["read"] = timeouts.idle
        answer = _HttpxResponse(response, total_at)
        try:
            ends_with_connection(answer.headers)
        except TransportError:
            await answer.aclose()
            raise
        return answer

    async def aclose(self) -> None:
        """As `Transport.aclose`."""
        await self._transport.aclose()


class _HttpxResponse(UpstreamResponse):
    __slots__ = ("_blocks", "_stream", "_total_at")

    def __init__(self, response: httpx2.Response, total_at: float) -> None:
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]
        self._stream = cast(httpx2.AsyncByteStream, response.stream)
        self._blocks = cast(AsyncGenerator[bytes, None], self._stream.__aiter__())
        self._total_at = total_at

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout_at(None if self._total_at == inf else self._total_at):
                return await anext(self._blocks)
        except StopAsyncIteration:
            await self.aclose()
            raise
        except httpx2.TransportError as error:
            raise _from_httpx(error, StallTimeout) from error
        except TimeoutError as error:
            raise TotalTimeout("the exchange took too long") from error

    async def aclose(self) -> None:
        await self._blocks.aclose()
        await self._stream.aclose()


class PooledTransport(httpx2.AsyncBaseTransport):
    """Our transport behind httpx2's interface, for `httpx2.AsyncClient(transport=…)` and SDKs that take one.

    Many clients may share it, so closing one leaves it open. A request's body is read whole, then sent.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As httpx2 wants it. Raises httpx2.TransportError, with the TransportError as its cause."""
        body = await request.aread()
        patience = {key: value or inf for key, value in request.extensions.get("timeout", {}).items()}
        read = patience.get("read", inf)
        try:
            response = await self._transport.send(
                request.method.encode(),
                Target.parse(str(request.url)),
                header_block((n, v) for n, v in request.headers.raw if n.lower() not in RESERVED),
                body,
                timeouts=Timeouts(patience.get("connect", inf), read, read, inf),
            )
        except TransportError as error:
            raise _to_httpx(error) from error
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for block in self._response:
                yield block
        except TransportError as error:
            raise _to_httpx(error) from error

    async def aclose(self) -> None:
        await self._response.aclose()


def _from_httpx(error: httpx2.TransportError, timeout: type[TransportError]) -> TransportError:
    message = str(error)
    if message.startswith(("peer closed", "Server disconnected")):  # httpx files a cut under protocol errors
        return ConnectionLost(message)
    ours = next(ours for theirs, ours in _FROM_HTTPX if isinstance(error, theirs))
    return (timeout if ours is ReadTimeout else ours)(message)


def _to_httpx(error: TransportError) -> httpx2.TransportError:
    return next(theirs for ours, theirs in _TO_HTTPX if isinstance(error, ours))(str(error))
