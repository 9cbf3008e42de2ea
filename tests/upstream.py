"""A scripted OpenAI-compatible upstream on loopback: says what a test tells it to, down to the single byte.

    async with scripted_upstream() as upstream:
        upstream.queue.append(stream(5, gap=0.01, cut_after=3, end=End.RESET))   # the next request gets this
        upstream.script = lambda request: refusal(429, retry_after=7)            # all others get this

A reply is bytes to be written at once, or steps: bytes to write, seconds to sleep, or an `End`.
"""

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, cast

import httptools


class End(Enum):
    """How a connection is ended in the middle of things."""

    RESET = auto()
    HALF = auto()  # our direction is shut, the other stays open
    CLOSE = auto()
    HANG = auto()  # nothing more comes and nothing is closed


Step = bytes | float | End
Reply = bytes | Iterable[Step]

PROMPT_TOKENS = 11
COMMENT = b": OPENROUTER PROCESSING\n\n"
GARBAGE = b"\x00\xff<html>not an event\n\n"
HALF_JSON = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"del\n\n'
ERROR_EVENT = b'data: {"error":{"message":"The server had an error","type":"server_error","code":null}}\n\n'

_REASONS = {
    200: "OK",
    302: "Found",
    400: "Bad Request",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def head(status: int = 200, headers: Mapping[str, object] | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
        *(f"{k}: {v}" for k, v in (headers or {}).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: object, status: int = 200, headers: Mapping[str, object] | None = None) -> bytes:
    """A reply with its length; anything but bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    kind = "application/json" if not isinstance(body, bytes) else "text/html"
    return head(status, {"content-type": kind, "content-length": len(content), **(headers or {})}) + content


def usage(completion_tokens: int, prompt_tokens: int = PROMPT_TOKENS) -> dict[str, int]:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def completion(
    content: str = "Hello from upstream.",
    *,
    tokens: int | None = 5,
    model: str = "stub",
    finish: str = "stop",
) -> bytes:
    """A whole chat completion; without usage when `tokens` is None."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer: dict[str, object] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1750000000}
    answer |= {"model": model, "choices": [choice]}
    if tokens is not None:
        answer["usage"] = usage(tokens)
    return whole(answer)


def chunked(block: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(block), block)


def stream(
    chunks: int | Sequence[str] = 5,
    *,
    wait: float = 0.0,
    gap: float = 0.0,
    with_usage: bool = True,
    null_usage: bool = False,
    done: int = 1,
    insert: Mapping[int, bytes] | None = None,
    cut_after: int | None = None,
    end: End | None = None,
    newline: bytes = b"\n",
    model: str = "stub",
    finish: str = "stop",
) -> Reply:
    """A streamed chat completion: role, one event for each content chunk, finish, usage, [DONE].

    `wait` seconds before the first byte and `gap` between events; `null_usage` puts `"usage": null` on every
    chunk; `insert` writes raw bytes after the k-th content chunk (0: before the first); after `cut_after`
    content chunks comes `end`.
    """
    words = [f"word{n} " for n in range(chunks)] if isinstance(chunks, int) else list(chunks)
    frame: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1750000000}
    frame |= {"model": model}

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        data = frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        data |= {"usage": None} if null_usage else {}
        return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"

    inserted = dict(insert or {})
    events = [event({"role": "assistant", "content": ""})] + ([inserted[0]] if 0 in inserted else [])
    for number, word in enumerate(words[:cut_after], start=1):
        events += [event({"content": word})] + ([inserted[number]] if number in inserted else [])
    if cut_after is None:
        events.append(event({}, finish))
        if with_usage:
            last = frame | {"choices": [], "usage": usage(len(words))}
            events.append(b"data: " + json.dumps(last).encode() + b"\n\n")
        events += [b"data: [DONE]\n\n"] * done
    pieces = [chunked(block.replace(b"\n", newline)) for block in events]
    if cut_after is None:
        pieces.append(b"0\r\n\r\n")
    start = head(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})
    if not wait and not gap and end is None:
        return start + b"".join(pieces)
    steps: list[Step] = [wait, start] if wait else [start]
    if not gap:
        steps.append(b"".join(pieces))
    else:
        for piece in pieces:
            steps += [piece, gap]
    return [*steps, end] if end else steps


def refusal(status: int, shape: str = "object", *, retry_after: int | None = None) -> bytes:
    """An error; `shape` of its body is object, list, string or html. Status 200 makes it one in disguise."""
    error = {"message": "upstream says no", "type": "upstream_kind", "param": None, "code": "upstream_code"}
    bodies: dict[str, object] = {"object": {"error": error}, "list": [{"error": error}]}
    bodies |= {"string": {"error": "upstream says no"}, "html": b"<html><body>upstream says no</body></html>"}
    return whole(bodies[shape], status, {} if retry_after is None else {"retry-after": retry_after})


def redirect(location: str) -> bytes:
    return whole(b"", 302, {"location": location})


def hang() -> Reply:
    return [End.HANG]


def wrong_length(by: int) -> Reply:
    """A completion whose content-length is `by` bytes too long (below zero: too short), and then the end."""
    body = completion().partition(b"\r\n\r\n")[2]
    return [
        head(200, {"content-type": "application/json", "content-length": len(body) + by}) + body,
        End.CLOSE,
    ]


def long_line(megabytes: int = 100) -> Iterator[Step]:
    """A stream of one `data:` line that does not end for this long, then [DONE]."""
    yield head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}) + chunked(
        b"data: "
    )
    block = chunked(b"x" * 65536)
    for _ in range(megabytes * 16):
        yield block
    yield chunked(b"\n\ndata: [DONE]\n\n") + b"0\r\n\r\n"


def gzipped(body: object) -> bytes:
    return whole(gzip.compress(json.dumps(body).encode()), 200, {"content-encoding": "gzip"})


def sliced(reply: Reply) -> Iterator[Step]:
    """The same, one byte at a time."""
    for step in [reply] if isinstance(reply, bytes) else reply:
        if isinstance(step, bytes):
            for byte in step:
                yield bytes([byte])
                yield 0.0
        else:
            yield step


def split_utf8(reply: bytes, pause: float = 0.01) -> Reply:
    """The same in two segments, parted within the first character that is longer than a byte."""
    at = next(index for index, byte in enumerate(reply) if byte >= 0x80) + 1
    return [reply[:at], pause, reply[at:]]


def as_asked(request: Seen) -> Reply:
    """What a healthy upstream would answer to this request."""
    if request.method == "GET" and request.path.endswith("/models"):
        return whole({"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": "stub"}]})
    if request.method != "POST" or not request.path.endswith("/chat/completions"):
        return refusal(404)
    asked = request.json()
    model = asked.get("model", "stub")
    if not asked.get("stream"):
        return completion(model=model)
    wanted = bool((asked.get("stream_options") or {}).get("include_usage"))
    return stream(model=model, with_usage=wanted, null_usage=wanted)


@dataclass
class Upstream:
    """The running upstream: what it was asked, and what it will answer."""

    url: str = ""  # ends in /v1
    requests: list[Seen] = field(default_factory=list)
    queue: deque[Reply] = field(default_factory=deque)
    script: Callable[[Seen], Reply] = as_asked
    connections: int = 0  # accepted so far
    aborted: int = 0  # connections the client ended in the middle of a reply
    peers: set["_Peer"] = field(default_factory=set)
    server: asyncio.Server | None = None

    def answer(self, request: Seen) -> Reply:
        self.requests.append(request)
        return self.queue.popleft() if self.queue else self.script(request)

    def close_connections(self) -> None:
        """Ends every connection as a server does that is tired of idle ones."""
        for peer in self.peers:
            peer.end(End.CLOSE)

    def stop_listening(self) -> None:
        """Refuses every connection from now on; those that are open stay."""
        if self.server is not None:
            self.server.close()

    async def until(self, condition: Callable[[], bool], within: float = 2.0) -> None:
        """Returns when the condition holds. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 (what is waited for is not ours to signal)
                await asyncio.sleep(0.005)


class _Peer(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.parser = httptools.HttpRequestParser(self)
        self.playing: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.upstream.connections += 1
        self.upstream.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.upstream.peers.discard(self)
        if self.playing is not None:
            self.playing.cancel()
            self.upstream.aborted += 1

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.url, self.headers, self.parts = b"", dict[str, str](), list[bytes]()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        request = Seen(method, self.url.decode(), self.headers, b"".join(self.parts))
        reply = self.upstream.answer(request)
        if isinstance(reply, bytes):
            self.transport.write(reply)
        else:
            self.playing = asyncio.get_running_loop().create_task(self.play(reply))

    async def play(self, reply: Iterable[Step]) -> None:
        for step in reply:
            if isinstance(step, bytes):
                self.transport.write(step)
                await self.writable.wait()
                if self.transport.is_closing():
                    return  # the client is gone, which connection_lost will count
            elif isinstance(step, End):
                if step is End.HANG:
                    await asyncio.get_running_loop().create_future()
                self.end(step)
                return
            else:
                await asyncio.sleep(step)
        self.playing = None

    def end(self, how: End) -> None:
        self.playing = None  # what follows is our doing
        if how is End.HALF:
            self.transport.write_eof()
        elif how is End.CLOSE:
            self.transport.close()
        else:
            connection: socket.socket = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


@asynccontextmanager
async def scripted_upstream(
    tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """A running upstream on a free port, gone with all its connections afterwards."""
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    upstream.server = server = await loop.create_server(
        lambda: _Peer(upstream), host, 0, ssl=tls, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    upstream.url = f"{'https' if tls else 'http'}://{host}:{port}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for peer in list(upstream.peers):
            peer.transport.abort()
        await asyncio.sleep(0)
        await server.wait_closed()
