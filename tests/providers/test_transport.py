"""What every transport to the upstreams promises, over real sockets: ours and httpx's under one contract."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from api.providers.transport import (
    BodyTooLarge,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    EncodingRefused,
    ProtocolError,
    ReadTimeout,
    StallTimeout,
    Target,
    Timeouts,
    TotalTimeout,
    Transport,
    TransportError,
    UpstreamResponse,
    header_block,
    open_transport,
)
from tests.upstream import (
    End,
    Reply,
    Step,
    Upstream,
    chunked,
    completion,
    gzipped,
    hang,
    head,
    long_line,
    redirect,
    refusal,
    scripted_upstream,
    sliced,
    split_utf8,
    stream,
    whole,
    wrong_length,
)

HEADERS = header_block([(b"Authorization", b"Bearer secret"), (b"content-type", b"application/json")])
LIMIT = 1 << 20
PATIENT = Timeouts(connect=5, first_byte=5, idle=5, total=20)


async def ask(
    transport: Transport,
    upstream: Upstream,
    *,
    method: bytes = b"POST",
    body: bytes = b"{}",
    timeouts: Timeouts = PATIENT,
) -> UpstreamResponse:
    target = Target.parse(upstream.url + "/chat/completions")
    return await transport.send(method, target, HEADERS, body, timeouts=timeouts)


async def body_of(response: UpstreamResponse) -> bytes:
    async with response:
        return await response.read(LIMIT)


def payload(reply: bytes) -> bytes:
    return reply.partition(b"\r\n\r\n")[2]


async def test_the_request_arrives_as_given_and_the_answer_comes_back_whole(
    transport: Transport, upstream: Upstream
) -> None:
    body = b'{"big": "' + b"x" * 5_000_000 + b'"}'
    upstream.queue.append(whole({"ok": True}, 201, {"X-Request-Id": "abc"}))
    response = await ask(transport, upstream, body=body)
    assert (response.status, response.header(b"x-request-id"), response.header(b"nothing")) == (
        201,
        b"abc",
        None,
    )
    assert await body_of(response) == b'{"ok": true}'
    seen = upstream.requests[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/chat/completions", body)
    assert seen.headers == {
        "host": upstream.url[7:-3],
        "accept-encoding": "identity",
        "authorization": "Bearer secret",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }


CHUNKS = b"4\r\nabcd\r\n3;note=1\r\nefg\r\n0\r\nx-trailer: 1\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        head(200, {"transfer-encoding": "chunked"}) + CHUNKS,
        head(200, {"content-length": 7}) + b"abcdefg",
        [head(200) + b"abcd", 0.02, b"efg", End.CLOSE],
        [b"HTTP/1.0 200 OK\r\n\r\nabcdefg", End.CLOSE],
        head(100) + head(103, {"link": "early"}) + head(200, {"content-length": 7}) + b"abcdefg",
        list(sliced(head(200, {"transfer-encoding": "chunked"}) + CHUNKS)),
    ],
    ids=["chunked", "content-length", "until-close", "http-1.0", "after-1xx", "byte-by-byte"],
)
async def test_every_framing_gives_the_same_body(
    transport: Transport, upstream: Upstream, reply: Reply
) -> None:
    upstream.script = lambda _: reply
    for _ in range(2):
        response = await ask(transport, upstream)
        assert (response.status, response.header(b"link"), response.header(b"x-trailer")) == (200, None, None)
        assert await body_of(response) == b"abcdefg"


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        (b"HEAD", head(200, {"content-length": 500})),
        (b"GET", head(204)),
        (b"GET", head(304, {"content-length": 500})),
    ],
)
async def test_answers_that_have_no_body_end_at_once(
    transport: Transport, upstream: Upstream, method: bytes, reply: bytes
) -> None:
    upstream.queue.extend([reply, completion()])
    response = await ask(transport, upstream, method=method, body=b"")
    assert await body_of(response) == b""
    assert await body_of(await ask(transport, upstream)) == payload(completion())


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
async def test_a_stream_passes_unchanged(transport: Transport, upstream: Upstream, newline: bytes) -> None:
    plain = stream(["né", "日本", "ok"], newline=newline)
    assert isinstance(plain, bytes)
    upstream.queue.extend([plain, split_utf8(plain), list(sliced(plain))])
    bodies = [await body_of(await ask(transport, upstream)) for _ in range(3)]
    assert bodies[0].endswith(b"data: [DONE]" + newline * 2) and "日本".encode() in bodies[0]
    assert bodies[0] == bodies[1] == bodies[2]


async def test_an_event_leaves_within_20_ms_of_its_arrival(transport: Transport, upstream: Upstream) -> None:
    def paced() -> Iterator[Step]:
        yield head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for _ in range(20):
            yield chunked(b"data: %.6f\n\n" % time.perf_counter())
            yield 0.02
        yield b"0\r\n\r\n"

    upstream.queue.append(paced())
    delays = []
    async with await ask(transport, upstream) as response:
        async for block in response:
            delays.append(time.perf_counter() - float(block.removeprefix(b"data: ")))
    assert len(delays) == 20
    assert sorted(delays)[-2] < 0.02  # one may meet the machine in a bad moment


@pytest.mark.parametrize(
    "reply",
    [
        wrong_length(10),
        stream(5, cut_after=3, end=End.CLOSE),
        stream(5, cut_after=3, end=End.HALF),
        stream(5, gap=0.01, cut_after=3, end=End.RESET),
        [head(200) + b"abc", 0.02, End.RESET],
    ],
    ids=["content-length", "chunked-close", "chunked-half", "chunked-reset", "until-close-reset"],
)
async def test_a_cut_in_the_body_gives_what_came_and_then_says_so(
    transport: Transport, upstream: Upstream, reply: Reply
) -> None:
    upstream.queue.append(reply)
    got = b""
    with pytest.raises(ConnectionLost) as caught:
        async with await ask(transport, upstream) as response:
            async for block in response:
                got += block
    assert got and caught.value.sent


async def test_a_cut_before_the_answer_is_not_sent_again_on_a_fresh_connection(
    transport: Transport, upstream: Upstream
) -> None:
    upstream.script = lambda _: [End.CLOSE]
    with pytest.raises(ConnectionLost):
        await ask(transport, upstream)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        head(200, {"x": "y" * 300_000}),
        head(200, {"content-length": "seven"}),
        head(200, {"transfer-encoding": "gzip, chunked"}) + CHUNKS,
        head(200, {"transfer-encoding": "chunked"}) + b"zz\r\nabc\r\n",
        head(101, {"upgrade": "websocket", "connection": "upgrade"}),
    ],
    ids=["other-protocol", "huge-head", "bad-length", "compressed-transfer", "bad-chunk", "upgrade"],
)
async def test_what_is_not_http_is_a_protocol_error(
    transport: Transport, upstream: Upstream, reply: Reply
) -> None:
    upstream.queue.append(reply)
    with pytest.raises(ProtocolError):
        await body_of(await ask(transport, upstream))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 429, 500, 503])
async def test_refusals_and_redirects_are_answers(
    transport: Transport, upstream: Upstream, status: int
) -> None:
    upstream.queue.append(
        redirect(upstream.url + "/elsewhere") if status == 302 else refusal(status, retry_after=7)
    )
    response = await ask(transport, upstream)
    assert response.status == status
    assert status == 302 or response.header(b"retry-after") == b"7"
    await body_of(response)
    assert len(upstream.requests) == 1


async def test_a_compressed_answer_is_refused_unread(transport: Transport, upstream: Upstream) -> None:
    upstream.queue.append(gzipped({"zeros": "0" * 1_000_000}))
    with pytest.raises(EncodingRefused):
        await ask(transport, upstream)
    assert await body_of(await ask(transport, upstream)) == payload(completion())


async def test_a_whole_read_stops_at_its_limit_and_drops_the_rest(
    transport: Transport, upstream: Upstream
) -> None:
    upstream.queue.append(long_line(megabytes=100))
    with pytest.raises(BodyTooLarge):
        await body_of(await ask(transport, upstream))
    await upstream.until(lambda: upstream.aborted == 1)


@pytest.mark.parametrize(
    ("reply", "timeouts", "error"),
    [
        (hang(), Timeouts(2, 0.1, 2, 20), ReadTimeout),
        ([0.3, completion()], Timeouts(2, 0.1, 2, 20), ReadTimeout),
        (stream(3, end=End.HANG, cut_after=2), Timeouts(2, 2, 0.1, 20), StallTimeout),
        (hang(), Timeouts(2, 2, 2, 0.1), TotalTimeout),
        (stream(30, gap=0.02), Timeouts(2, 2, 2, 0.2), TotalTimeout),
    ],
    ids=["no-answer", "late-answer", "stall", "total-before", "total-within"],
)
async def test_each_patience_ends_with_its_own_error(
    transport: Transport, upstream: Upstream, reply: Reply, timeouts: Timeouts, error: type[TransportError]
) -> None:
    upstream.queue.append(reply)
    started = time.monotonic()
    with pytest.raises(error) as caught:
        await body_of(await ask(transport, upstream, timeouts=timeouts))
    assert type(caught.value) is error and caught.value.sent
    assert time.monotonic() - started < 1
    await upstream.until(lambda: upstream.aborted == 1)


async def test_a_slow_reader_is_not_a_stalled_upstream(transport: Transport, upstream: Upstream) -> None:
    upstream.queue.append(stream(40, gap=0.01))
    async with await ask(transport, upstream, timeouts=Timeouts(2, 2, 0.1, 20)) as response:
        got = await anext(response) + await anext(response)
        await asyncio.sleep(0.25)
        got += await response.read(LIMIT)
    assert got.endswith(b"[DONE]\n\n")


async def test_no_connection_says_that_nothing_was_sent(transport: Transport) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        nobody = Upstream(url=f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        with pytest.raises(ConnectTimeout) as late:
            await ask(transport, nobody, timeouts=Timeouts(0.2, 2, 2, 20))
    with pytest.raises(ConnectError) as refused:
        await ask(transport, nobody)
    assert not late.value.sent and not refused.value.sent


@pytest.mark.parametrize("reply", [hang(), stream(5, end=End.HANG, cut_after=2)], ids=["before", "within"])
async def test_cancelling_the_caller_closes_the_connection_promptly(
    transport: Transport, upstream: Upstream, reply: Reply
) -> None:
    upstream.queue.append(reply)

    async def call() -> bytes:
        return await body_of(await ask(transport, upstream))

    task = asyncio.create_task(call())
    await upstream.until(lambda: bool(upstream.requests))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.until(lambda: upstream.aborted == 1, within=0.2)


async def test_closing_an_unread_answer_closes_the_connection(
    transport: Transport, upstream: Upstream
) -> None:
    upstream.queue.append(stream(100, gap=0.01))
    async with await ask(transport, upstream) as response:
        await anext(response)
    await upstream.until(lambda: upstream.aborted == 1, within=0.2)
    assert await body_of(await ask(transport, upstream)) == payload(completion())
    assert upstream.connections == 2


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_a_slow_reader_slows_the_upstream_and_not_the_memory(
    transport: Transport, upstream: Upstream
) -> None:
    written = 0

    def flood() -> Iterator[Step]:
        nonlocal written
        yield head(200, {"transfer-encoding": "chunked"})
        for _ in range(800):
            written += 65536
            yield chunked(b"x" * 65536)
        yield b"0\r\n\r\n"

    before = resident_bytes()
    upstream.queue.append(flood())
    async with await ask(transport, upstream) as response:
        size = len(await anext(response))
        await asyncio.sleep(0.3)
        assert written < 20_000_000  # what the kernel's socket buffers hold, and little more
        peak = resident_bytes()
        async for block in response:
            size += len(block)
            peak = max(peak, resident_bytes())
            await asyncio.sleep(0.0005)
    assert size == 800 * 65536
    assert peak - before < 25_000_000


@pytest.mark.parametrize("kind", ["own", "httpx"])
async def test_tls_checks_who_answers(
    kind: Literal["own", "httpx"], certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, trusting = certificate
    asked_for: list[str | None] = []
    server.sni_callback = lambda _, name, __: asked_for.append(name)
    trusted, system = open_transport(kind, ssl_context=trusting), open_transport(kind)
    async with scripted_upstream(server) as upstream:
        by_number, upstream.url = upstream.url, upstream.url.replace("127.0.0.1", "localhost")
        for _ in range(3):
            assert await body_of(await ask(trusted, upstream)) == payload(completion())
        assert (upstream.connections, asked_for) == (1, ["localhost"])
        upstream.queue.append(stream(5, gap=0.01, cut_after=3, end=End.RESET))
        with pytest.raises(ConnectionLost):
            await body_of(await ask(trusted, upstream))
        with pytest.raises(ConnectError) as unknown:
            await ask(system, upstream)
        upstream.url = by_number
        with pytest.raises(ConnectError) as other_name:
            await ask(trusted, upstream)
    assert not unknown.value.sent and not other_name.value.sent
    assert "certificate" in str(unknown.value).lower() + str(other_name.value).lower()
    await trusted.aclose()
    await system.aclose()
