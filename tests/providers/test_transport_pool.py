"""What our own pool promises, and what it is behind httpx2's interface and the official SDK."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import httpx2
import openai
import pytest

from api.providers import http_connection
from api.providers.transport import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    InvalidRequest,
    OwnTransport,
    PooledTransport,
    ProtocolError,
    Target,
    Timeouts,
    Transport,
    TransportError,
    header_block,
    open_transport,
)
from tests.providers.test_transport import ask, body_of, payload
from tests.upstream import (
    COMMENT,
    ERROR_EVENT,
    End,
    Reply,
    Seen,
    Upstream,
    completion,
    hang,
    head,
    refusal,
    stream,
    whole,
    wrong_length,
)


@pytest.fixture
async def own() -> AsyncIterator[OwnTransport]:
    opened = OwnTransport(connections_per_origin=4, max_idle=0.2)
    yield opened
    await opened.aclose()


def test_a_header_cannot_smuggle_another_request() -> None:
    for name, value in [
        (b"x-key", b"a\r\nx-evil: 1"),
        (b"x-key", b"a\nb"),
        (b"x-key", b"a\x00b"),
        (b"x-key", b"a\r"),
        (b"x key", b"a"),
        (b"x-key\r\n", b"a"),
        (b"", b"a"),
        (b"Content-Length", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"HOST", b"elsewhere"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            header_block([(name, value)])
        assert not caught.value.sent
    for url in [
        "http://a/ HTTP/1.1\r\nx: 1",
        "http://a/\r\nx",
        "ftp://a/",
        "http://u:p@a/",
        "http://a:99999/",
        "/v1",
    ]:
        with pytest.raises(InvalidRequest):
            Target.parse(url)


async def test_200_requests_at_once_are_all_answered(transport: Transport, upstream: Upstream) -> None:
    upstream.script = lambda request: [0.05, whole(request.json())]
    bodies = [b"%d" % number for number in range(200)]
    answers = await asyncio.gather(*(ask(transport, upstream, body=body) for body in bodies))
    assert [await body_of(answer) for answer in answers] == bodies


async def test_one_connection_serves_request_after_request(transport: Transport, upstream: Upstream) -> None:
    for _ in range(20):
        assert (await body_of(await ask(transport, upstream, body=b'{"stream": true}'))).endswith(
            b"[DONE]\n\n"
        )
    assert upstream.connections == 1


async def test_a_connection_closed_while_idle_is_replaced(transport: Transport, upstream: Upstream) -> None:
    await body_of(await ask(transport, upstream))
    upstream.close_connections()
    await upstream.until(lambda: not upstream.peers)
    assert await body_of(await ask(transport, upstream)) == payload(completion())
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("kind", ["own", "httpx"])
async def test_no_more_connections_than_allowed_and_everybody_gets_a_turn(
    kind: Literal["own", "httpx"], upstream: Upstream
) -> None:
    transport = open_transport(kind, connections_per_origin=4)
    upstream.script = lambda request: [0.01, whole(request.json())]
    bodies = [b"%d" % number for number in range(50)]

    async def call(body: bytes) -> bytes:
        return await body_of(await ask(transport, upstream, body=body))

    assert await asyncio.gather(*map(call, bodies)) == bodies
    assert upstream.connections == 4
    await transport.aclose()


async def test_a_place_in_the_queue_is_given_up_in_time_and_lost_to_nobody(
    own: OwnTransport, upstream: Upstream
) -> None:
    upstream.script = lambda _: stream(5, end=End.HANG, cut_after=2)
    busy = [await ask(own, upstream) for _ in range(4)]
    with pytest.raises(ConnectTimeout) as caught:
        await ask(own, upstream, timeouts=Timeouts(0.1, 2, 2, 20))
    assert not caught.value.sent
    waiting = [asyncio.create_task(ask(own, upstream)) for _ in range(8)]
    await asyncio.sleep(0.01)
    upstream.script = lambda _: completion()
    await busy[0].aclose()
    waiting[0].cancel()  # at the very moment its turn comes
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [await body_of(answer) for answer in answers[1:] if not isinstance(answer, BaseException)] == [
        payload(completion())
    ] * 7
    for response in busy:
        await response.aclose()
    await asyncio.gather(*(ask(own, upstream) for _ in range(20)))
    assert len(upstream.peers) <= 4


async def test_a_request_that_meets_a_connection_just_closed_is_sent_once_more(
    own: OwnTransport, upstream: Upstream
) -> None:
    for _ in range(3):
        upstream.queue.extend([completion(), [End.CLOSE], completion("again")])
        await body_of(await ask(own, upstream))
        assert await body_of(await ask(own, upstream)) == payload(completion("again"))
    assert len(upstream.requests) == 9


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ([b"HTTP/1.1 2", End.CLOSE], ConnectionLost),
        ([0.15, End.CLOSE], ConnectionLost),
        ([head(200, {"content-length": 5}), End.CLOSE], ConnectionLost),
        (b"garbage\r\n\r\n", ProtocolError),
    ],
    ids=["a-byte-came", "it-had-time-to-work", "the-head-came", "garbage-came"],
)
async def test_a_request_the_upstream_may_have_seen_is_never_sent_twice(
    own: OwnTransport,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
    error: type[TransportError],
) -> None:
    monkeypatch.setattr(http_connection, "RACE_WINDOW", 0.1)
    upstream.queue.extend([completion(), reply])
    await body_of(await ask(own, upstream))
    with pytest.raises(error) as caught:
        await body_of(await ask(own, upstream))
    assert caught.value.sent and len(upstream.requests) == 2


async def test_when_the_second_try_cannot_connect_the_first_still_counts_as_sent(
    own: OwnTransport, upstream: Upstream
) -> None:
    await body_of(await ask(own, upstream))
    upstream.stop_listening()
    upstream.queue.append([End.CLOSE])
    with pytest.raises(ConnectionLost) as caught:
        await ask(own, upstream)
    assert caught.value.sent


async def test_an_answer_that_outruns_its_request_ends_the_connection(own: OwnTransport) -> None:
    accepted, finished = 0, asyncio.Event()

    async def refuse_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal(413))
        await finished.wait()
        writer.transport.abort()

    server = await asyncio.start_server(refuse_at_once, "127.0.0.1", 0, limit=4096)
    upstream = Upstream(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    for expected in (1, 2):
        response = await ask(own, upstream, body=b"x" * 20_000_000)
        assert (response.status, accepted) == (413, expected)
    finished.set()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


async def test_a_second_lost_connection_is_not_tried_a_third_time(
    own: OwnTransport, upstream: Upstream
) -> None:
    await body_of(await ask(own, upstream))
    upstream.script = lambda _: [End.CLOSE]
    with pytest.raises(ConnectionLost):
        await ask(own, upstream)
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        completion() + completion("of another"),
        completion() + b"garbage",
        [completion(), 0.02, completion("of another")],
        wrong_length(-5),
        head(200, {"content-length": 2, "connection": "close"}) + b"{}",
    ],
    ids=["second-answer", "garbage-behind", "second-answer-later", "longer-than-said", "said-close"],
)
async def test_a_connection_with_more_on_it_than_its_answer_serves_nobody_else(
    own: OwnTransport, upstream: Upstream, reply: Reply
) -> None:
    upstream.queue.extend([reply, completion("mine")])
    await body_of(await ask(own, upstream))
    await asyncio.sleep(0.05)
    assert await body_of(await ask(own, upstream)) == payload(completion("mine"))
    assert upstream.connections == 2


async def test_what_one_read_delivers_is_one_block(own: OwnTransport, upstream: Upstream) -> None:
    async with await ask(own, upstream, body=b'{"stream": true}') as response:
        blocks = [block async for block in response]
    assert len(blocks) == 1 and blocks[0].count(b"\n\n") == 8


async def test_an_unread_answer_that_came_whole_does_not_keep_its_connection(
    own: OwnTransport, upstream: Upstream
) -> None:
    answers = [await ask(own, upstream) for _ in range(20)]
    assert upstream.connections == 1
    assert {await body_of(answer) for answer in answers} == {payload(completion())}


async def test_idle_connections_are_closed_after_their_time(own: OwnTransport, upstream: Upstream) -> None:
    await asyncio.gather(*(ask(own, upstream) for _ in range(4)))
    assert len(upstream.peers) == 4
    await upstream.until(lambda: not upstream.peers, within=0.5)
    assert upstream.aborted == 0
    assert await body_of(await ask(own, upstream)) == payload(completion())


async def test_closing_the_transport_ends_everything(own: OwnTransport, upstream: Upstream) -> None:
    upstream.script = lambda _: hang()
    calls = [asyncio.create_task(ask(own, upstream)) for _ in range(6)]  # the pool has room for four
    await upstream.until(lambda: len(upstream.requests) == 4)
    await own.aclose()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectionLost] * 4 + [ConnectError] * 2
    await upstream.until(lambda: not upstream.peers)
    with pytest.raises(ConnectError):
        await ask(own, upstream)


async def test_a_connection_that_opens_while_the_transport_closes_is_closed_too(
    own: OwnTransport, upstream: Upstream
) -> None:
    call = asyncio.create_task(ask(own, upstream))
    await asyncio.sleep(0)
    await own.aclose()
    with pytest.raises(ConnectError):
        await call
    await upstream.until(lambda: not upstream.peers)
    assert not upstream.requests


async def test_a_connection_that_fails_gives_its_place_back(own: OwnTransport) -> None:
    nobody = Upstream(url="http://127.0.0.1:1/v1")
    for _ in range(10):
        with pytest.raises(ConnectError):
            await ask(own, nobody)


async def test_the_official_sdk_works_on_our_pool(own: OwnTransport, upstream: Upstream) -> None:
    upstream.queue.append(completion("whole"))
    upstream.queue.append(stream(["in ", "parts"], gap=0.005, insert={1: COMMENT}))
    upstream.queue.append(refusal(429, retry_after=9))
    upstream.queue.append(stream(3, insert={1: ERROR_EVENT}))
    async with openai.AsyncOpenAI(
        base_url=upstream.url,
        api_key="secret",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=PooledTransport(own)),
    ) as client:
        chat = client.chat.completions

        async def say(streamed: bool) -> str:
            asked: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
            if not streamed:
                answer = await chat.create(model="stub", messages=asked)
                return answer.choices[0].message.content or ""
            parts = await chat.create(model="stub", messages=asked, stream=True)
            return "".join([part.choices[0].delta.content or "" async for part in parts if part.choices])

        assert await say(streamed=False) == "whole"
        assert await say(streamed=True) == "in parts"
        with pytest.raises(openai.RateLimitError) as limited:
            await say(streamed=False)
        assert limited.value.response.headers["retry-after"] == "9"
        with pytest.raises(openai.APIError):
            await say(streamed=True)
    await upstream.until(lambda: len(upstream.requests) == 4)
    assert upstream.requests[0].headers["authorization"] == "Bearer secret"
    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    assert await body_of(await ask(own, upstream)) == payload(completion())  # the pool outlives the client


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (hang(), httpx2.ReadTimeout),
        ([End.CLOSE], httpx2.ReadError),
        (stream(5, cut_after=2, end=End.CLOSE), httpx2.ReadError),
        (b"garbage\r\n\r\n", httpx2.RemoteProtocolError),
    ],
)
async def test_httpx_clients_get_httpx_errors(
    own: OwnTransport, upstream: Upstream, reply: Reply, error: type[Exception]
) -> None:
    upstream.queue.append(reply)
    async with httpx2.AsyncClient(transport=PooledTransport(own), timeout=0.2) as client:
        with pytest.raises(error):
            await client.get(upstream.url + "/models")
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://127.0.0.1:1/")


async def test_httpx_clients_send_streamed_bodies_and_see_redirects(
    own: OwnTransport, upstream: Upstream
) -> None:
    def script(request: Seen) -> Reply:
        return whole(
            {"path": request.path, "body": request.body.decode(), "length": request.headers["content-length"]}
        )

    async def body() -> AsyncIterator[bytes]:
        yield b"in "
        yield b"parts"

    upstream.script = script
    async with httpx2.AsyncClient(transport=PooledTransport(own), timeout=None) as client:
        answer = await client.post(upstream.url + "/files?x=a%20b", content=body())
    assert answer.json() == {"path": "/v1/files?x=a%20b", "body": "in parts", "length": "8"}
