"""Owns what every transport agrees on: a request's parts, an answer's shape, the ways both can fail."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NewType, Protocol, Self
from urllib.parse import urlsplit

HeaderBlock = NewType("HeaderBlock", bytes)

# The transport alone decides framing, connection and encoding: two opinions on them let requests be smuggled.
RESERVED = frozenset(
    b"host content-length transfer-encoding connection keep-alive accept-encoding te trailer upgrade expect "
    b"proxy-connection".split()
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class TransportError(Exception):
    """No usable answer. `sent` says whether the request may have reached the upstream."""

    sent: ClassVar[bool] = True


class InvalidRequest(TransportError):
    """The request cannot be put on the wire safely; nothing was sent."""

    sent = False


class ConnectError(TransportError):
    """No connection: refused, unknown host, or a certificate that does not hold."""

    sent = False


class ConnectTimeout(TransportError):
    """No connection in time, the wait for a free place under the cap included."""

    sent = False


class ReadTimeout(TransportError):
    """No answer began in time."""


class StallTimeout(TransportError):
    """The answer began, and then no block came in time."""


class TotalTimeout(TransportError):
    """The exchange as a whole took too long."""


class ProtocolError(TransportError):
    """What came back is not HTTP we accept."""


class EncodingRefused(ProtocolError):
    """The answer is compressed though we asked that it be not: its true size is unknown."""


class ConnectionLost(TransportError):
    """The connection ended before the answer did."""


class BodyTooLarge(TransportError):
    """The answer is longer than its reader's limit."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, until the answer's head, from block to block, for everything together."""

    connect: float = 10.0
    first_byte: float = 300.0
    idle: float = 120.0
    total: float = 900.0


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream address, taken apart once: where to connect, the request line and the headers it fixes."""

    url: str
    origin: str
    host: str
    port: int
    tls: bool
    line: bytes

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(url: str) -> Target:
        """The target of an http(s) URL. Raises InvalidRequest for anything else, credentials included."""
        if not url.isascii() or not url.isprintable() or " " in url:
            raise InvalidRequest("an upstream URL is printable ASCII without spaces")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidRequest("an upstream URL has a port from 1 to 65535") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InvalidRequest("an upstream URL is http(s)://host[:port]/path without credentials")
        tls = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        line = f" {path} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept-encoding: identity\r\n".encode()
        port = port or (443 if tls else 80)
        return Target(url, f"{parts.scheme}://{parts.netloc}", parts.hostname, port, tls, line)


def header_block(headers: Iterable[tuple[bytes, bytes]]) -> HeaderBlock:
    """The headers as wire bytes, good for any number of requests.

    Raises InvalidRequest for a name that is no token or is one of RESERVED, and for a value with a line break
    or another control character, or with white space at an end.
    """
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or name.lower() in RESERVED:
            raise InvalidRequest("a header name is not allowed")
        if _CONTROL.search(value) or value.strip() != value:
            raise InvalidRequest("a header value has characters that are not allowed")
        lines.append(name.lower() + b": " + value + b"\r\n")
    return HeaderBlock(b"".join(lines))


class UpstreamResponse(ABC):
    """One answer: status and headers at once, the body in blocks as they arrive, de-framed.

    Iterating raises ConnectionLost, ProtocolError, StallTimeout or TotalTimeout in the place of what did not
    come; an iteration that ends by itself has given the whole body. Cancelling a read closes the connection:
    put one under `wait_for` only if the answer is to be given up with it.
    """

    __slots__ = ("headers", "status")
    status: int
    headers: list[tuple[bytes, bytes]]  # names in lower case

    def header(self, name: bytes) -> bytes | None:
        """The first header of this lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self, limit: int) -> bytes:
        """The rest of the body. Above `limit` bytes it drops the connection and raises BodyTooLarge."""
        blocks, size = [], 0
        async for block in self:
            size += len(block)
            if size > limit:
                await self.aclose()
                raise BodyTooLarge(f"the answer is longer than {limit} bytes")
            blocks.append(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> bytes: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Afterwards the connection serves others, or is closed if the body had not come to its end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


class Transport(Protocol):
    """A way to the upstreams. It follows no redirect and accepts no compressed answer."""

    async def send(
        self,
        method: bytes,
        target: Target,
        headers: HeaderBlock,
        body: bytes = b"",
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> UpstreamResponse:
        """The answer, as soon as its head is here; close it whatever happens. Raises TransportError."""
        ...

    async def aclose(self) -> None:
        """Afterwards no connection is open; what was under way gets ConnectionLost."""
        ...


def ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether an answer with these headers names no length, so that its body ends where the connection does.

    Raises EncodingRefused, and ProtocolError for a transfer coding other than chunked.
    """
    unframed = True
    for name, value in headers:
        if name == b"content-length":
            unframed = False
        elif name == b"transfer-encoding":
            unframed = False
            if value.strip().lower() != b"chunked":
                raise ProtocolError("a transfer coding other than chunked")
        elif name == b"content-encoding" and value.strip().lower() not in (b"identity", b""):
            raise EncodingRefused("the answer is compressed")
    return unframed
