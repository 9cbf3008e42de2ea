"""Odd but whole streams arrive whole; floods, slow and vanishing clients cost neither memory nor money."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.money import MICRO
from tests.gateway.test_chat import ASK, CHAT, IN, ONE_ANSWER, OUT, data_lines
from tests.running import Customer, Running, balance, customer, open_holds, settled, usage_rows
from tests.upstream import (
    ERROR_EVENT,
    GARBAGE,
    HALF_JSON,
    End,
    Reply,
    Step,
    Upstream,
    chunked,
    completion,
    head,
    long_line,
    refusal,
    sliced,
    split_utf8,
    stream,
    usage,
)

STREAM = ASK | {"stream": True}
WITH_USAGE = STREAM | {"stream_options": {"include_usage": True}}
HINDI = ["नमस्ते ", "दुनिया", " — 🙏 ", "end"]
LAST = b'data: {"id":"chatcmpl-1","model":"stub","choices":[],"usage":%s}\n\n'


def _stream(**how: object) -> bytes:
    made = stream(HINDI, **how)  # type: ignore[arg-type]
    assert isinstance(made, bytes)
    return made


ODD: dict[str, Callable[[], Reply]] = {
    "one byte at a time": lambda: sliced(_stream()),
    "CRLF": lambda: _stream(newline=b"\r\n"),
    "CRLF, one byte at a time": lambda: sliced(_stream(newline=b"\r\n")),
    "a character in two segments": lambda: split_utf8(_stream()),
    "two [DONE]": lambda: _stream(done=2),
    "no [DONE]": lambda: _stream(done=0),
    "usage null on every chunk": lambda: _stream(null_usage=True),
    "usage twice": lambda: _stream(insert={4: LAST % json.dumps(usage(2)).encode()}),
}


@pytest.mark.parametrize("oddity", ODD)
async def test_an_odd_stream_is_whole_ends_in_done_and_costs_what_the_last_usage_says(
    gateway: Running, acme: Customer, upstream: Upstream, oddity: str
) -> None:
    upstream.queue.append(ODD[oddity]())
    answer = await gateway.client.post(CHAT, json=WITH_USAGE, headers=acme.headers)
    lines = data_lines(answer.text)
    assert lines.count("[DONE]") == 1 and lines[-1] == "[DONE]" and "\r" not in answer.text
    chunks = [json.loads(line) for line in lines[:-1]]
    said = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(said) == "".join(HINDI)
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.outcome, row.finish_reason, row.charge) == ("ok", "stop", 11 * IN + 4 * OUT)
    assert (await balance(gateway.services, acme.tenant_id)).total == 1000 * MICRO - row.charge


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@asynccontextmanager
async def memory_bounded(megabytes: int) -> AsyncIterator[None]:
    """This process, gateway and scripted upstream together, never grows by more than this meanwhile."""
    before = most = _resident()

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, _resident())
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    assert most - before < megabytes * 1_000_000, f"grew by {(most - before) / 1e6:.0f} MB"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_line_of_a_hundred_megabytes_is_a_fault_and_is_not_kept(
    gateway: Running, acme: Customer, upstream: Upstream, streamed: bool
) -> None:
    upstream.queue.append(long_line(100))
    async with memory_bounded(96 if not streamed else 48):
        answer = await gateway.client.post(CHAT, json=ASK | {"stream": streamed}, headers=acme.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    await upstream.until(lambda: upstream.aborted == 1, within=1.0)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.outcome, row.charge) == ("failed", 0)
    assert (await balance(gateway.services, acme.tenant_id)).available == 1000 * MICRO


async def test_an_endless_line_in_mid_stream_breaks_it_and_what_was_sent_is_paid(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(stream(9, gap=0.02, insert={3: b"data: " + b"x" * 6_000_000}))
    answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    lines = data_lines(answer.text)
    error = json.loads(lines[-1])["error"]
    assert error["code"] == "upstream_error" and "charged only for what you received" in error["message"]
    assert len(answer.content) < 10_000
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.outcome, row.output_tokens) == ("cut", 3)


FRAME = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "stub"}
EVENTS = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})


def event(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish}
    return b"data: " + json.dumps(FRAME | {"choices": [choice]}).encode() + b"\n\n"


BAD = {"garbage": GARBAGE, "half a chunk": HALF_JSON, "an error event": ERROR_EVENT}


@pytest.mark.parametrize("bad", BAD)
async def test_what_came_before_the_fault_in_one_segment_arrives_and_is_what_is_paid(
    gateway: Running, acme: Customer, upstream: Upstream, bad: str
) -> None:
    broken = chunked(event("b") + event("c") + BAD[bad] + event("d"))
    upstream.queue.append([EVENTS + chunked(event("a")), 0.1, broken, End.HANG])
    async with asyncio.timeout(0.9):  # and nobody waits for what may follow
        answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    chunks = [json.loads(line) for line in data_lines(answer.text)]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1]] == ["a", "b", "c"]
    assert chunks[-1]["error"]["code"] == "upstream_error"
    await upstream.until(lambda: upstream.aborted == 1)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.outcome, row.output_tokens) == ("cut", 3)


@pytest.mark.parametrize("bad", BAD)
async def test_a_fault_in_the_first_segment_is_a_refusal_and_another_vendor_may_answer(
    gateway: Running, acme: Customer, upstream: Upstream, bad: str
) -> None:
    broken = [EVENTS + chunked(event("a") + BAD[bad]), End.HANG]
    upstream.queue.append(broken)
    answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    model = gateway.services.catalog.models["gpt-4o"]
    second = model.targets[0].__class__(vendor="openrouter", model="openai/gpt-4o")
    object.__setattr__(model, "targets", (*model.targets, second))
    upstream.queue.append(broken)
    answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    assert data_lines(answer.text)[-1] == "[DONE]" and '"a"' not in answer.text
    first, last = await usage_rows(gateway.services, acme.tenant_id)
    assert (first.charge, first.outcome) == (0, "failed")
    assert (last.charge, last.outcome, last.provider) == (ONE_ANSWER, "ok", "openrouter")


async def test_a_router_that_says_error_in_a_choice_costs_nothing(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue += [completion("half an ans", finish="error"), stream(2, finish="error")]
    whole = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    streamed = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    assert whole.status_code == streamed.status_code == 502
    assert (await balance(gateway.services, acme.tenant_id)).available == 1000 * MICRO


async def test_large_blocks_are_held_for_slice_by_slice_and_stop_where_the_wallet_does(
    gateway: Running, upstream: Upstream
) -> None:
    poor = await customer(gateway.services, credits="80")  # some 83,000 tokens of output
    block = event("y" * 4000) * 16  # a third of its bytes: 21,000 tokens or more
    upstream.queue.append([EVENTS, *[step for _ in range(20) for step in (chunked(block), 0.03)], End.HANG])
    ask = {"model": "gpt-4o", "messages": ASK["messages"], "stream": True}
    answer = await gateway.client.post(CHAT, json=ask, headers=poor.headers)
    lines = data_lines(answer.text)
    last = json.loads(lines[-2])
    assert lines[-1] == "[DONE]" and last["callmissed"]["reason"] == "insufficient_credits"
    assert 3 * 64_000 <= len(answer.content) <= 5 * 70_000


async def test_an_answer_that_is_over_is_not_stopped_for_money(gateway: Running, upstream: Upstream) -> None:
    poor = await customer(gateway.services, credits="9")  # one slice of output, and no second
    upstream.queue.append(EVENTS + chunked(event("y" * 60_000) + event("", "stop") + b"data: [DONE]\n\n"))
    upstream.queue.append([EVENTS + chunked(event("y" * 60_000) + event("", "stop")), 0.1, b"0\r\n\r\n"])
    ask = {"model": "gpt-4o", "messages": ASK["messages"], "stream": True}
    for _ in range(2):
        answer = await gateway.client.post(CHAT, json=ask, headers=poor.headers)
        lines = data_lines(answer.text)
        reasons = [json.loads(line)["choices"][0]["finish_reason"] for line in lines[:-1]]
        assert [reason for reason in reasons if reason] == ["stop"] and lines[-1] == "[DONE]"


def flood(megabytes: int, sent: list[int]) -> Iterator[Step]:
    """Events as fast as they are taken; `sent` is added the bytes of each step. Then a proper end."""
    block = chunked(event("y" * 4000) * 16)
    yield EVENTS
    for _ in range(megabytes * 1_000_000 // len(block)):
        sent.append(len(block))
        yield block
    yield chunked(event("", "stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n"


@asynccontextmanager
async def reading_by_hand(gateway: Running, who: Customer) -> AsyncIterator[Callable[[int], object]]:
    """A streamed call over a socket that takes nothing but what `await read(bytes)` asks for."""
    loop = asyncio.get_running_loop()
    body = json.dumps({"model": "gpt-4o", "messages": ASK["messages"], "stream": True}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        lines = [f"POST {CHAT} HTTP/1.1", "host: x", f"authorization: {who.headers['authorization']}"]
        lines += ["content-type: application/json", f"content-length: {len(body)}", "", ""]
        await loop.sock_sendall(connection, "\r\n".join(lines).encode() + body)
        yield lambda size: loop.sock_recv(connection, size)


async def test_a_slow_reader_slows_the_vendor_and_fills_no_memory(
    gateway: Running, upstream: Upstream
) -> None:
    rich = await customer(gateway.services, credits="1000000")
    sent: list[int] = []
    upstream.queue.append(flood(400, sent))
    async with memory_bounded(32), reading_by_hand(gateway, rich) as read:
        for _ in range(4):
            assert await read(4096)
            await asyncio.sleep(0.7)
        # What the kernel keeps for three sockets is megabytes, and not hundreds.
        assert sum(sent) < 24_000_000
        before = len(sent)
        async with asyncio.timeout(2):  # it goes on when the reader does
            while len(sent) < before + 20:
                assert await read(65536)
                await asyncio.sleep(0)
    await upstream.until(lambda: upstream.aborted == 1, within=1.0)
    (row,) = await settled(gateway.services, rich.tenant_id)
    assert row.outcome == "client_gone" and row.charge > 0
    assert await open_holds(gateway.services, rich.tenant_id) == 0


async def test_a_reader_that_pauses_gets_every_byte_in_order_and_a_clean_end(
    gateway: Running, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    rich = await customer(gateway.services, credits="1000000")
    sent: list[int] = []
    upstream.queue.append(flood(12, sent))
    got = bytearray()
    async with reading_by_hand(gateway, rich) as read:
        for pause in (0.8, 0.5, 0.5):  # several times the interval of comments
            got += await read(50_000)
            await asyncio.sleep(pause)
        while not got.endswith(b"0\r\n\r\n"):
            piece = await read(1_000_000)
            assert piece, "the connection ended before the answer did"
            got += piece
    text = _unchunked(bytes(got).partition(b"\r\n\r\n")[2])
    said = [json.loads(line)["choices"][0] for line in data_lines(text)[:-1]]
    assert sum(len(choice["delta"].get("content", "")) for choice in said) == 4000 * 16 * len(sent)
    assert text.endswith("data: [DONE]\n\n") and said[-1]["finish_reason"] == "stop"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def _unchunked(body: bytes) -> str:
    pieces = []
    while body:
        size, _, body = body.partition(b"\r\n")
        pieces.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(pieces).decode()


async def test_a_client_that_takes_nothing_more_is_given_up_and_its_money_is_free(
    gateway: Running, upstream: Upstream
) -> None:
    object.__setattr__(gateway.services.settings, "request_deadline", 1.0)
    rich = await customer(gateway.services, credits="1000000")
    upstream.queue.append(flood(400, []))
    async with reading_by_hand(gateway, rich) as read:
        await read(4096)
        rows = await settled(gateway.services, rich.tenant_id)
        assert rows[0].outcome in ("client_gone", "timeout")  # whoever sees the deadline first
        await upstream.until(lambda: upstream.aborted == 1, within=1.0)
    left = await balance(gateway.services, rich.tenant_id)
    assert (left.held, left.total) == (0, 1_000_000 * MICRO - rows[0].charge)


async def test_a_hundred_clients_that_vanish_at_random_leave_a_hundred_rows_and_nothing_open(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    moments = random.Random(20)
    upstream.script = lambda _: stream(500, wait=moments.uniform(0, 0.6), gap=0.01)
    everybody_is_in = asyncio.Event()

    async def vanish(after: float) -> None:
        async with reading_by_hand(gateway, acme):
            await everybody_is_in.wait()
            await asyncio.sleep(after)

    clients = [asyncio.create_task(vanish(moments.uniform(0, 0.8))) for _ in range(100)]
    await upstream.until(lambda: len(upstream.requests) == 100, within=10.0)
    everybody_is_in.set()
    await asyncio.gather(*clients)
    await upstream.until(lambda: upstream.aborted == 100, within=1.0)
    rows = await settled(gateway.services, acme.tenant_id, 100)
    assert len(rows) == 100 and {row.outcome for row in rows} == {"client_gone"}
    assert any(row.charge for row in rows) and not all(row.charge for row in rows)
    assert all((row.usage_source == "none") == (row.charge == 0) for row in rows)
    left = await balance(gateway.services, acme.tenant_id)
    assert (left.total, left.held) == (1000 * MICRO - sum(row.charge for row in rows), 0)
    assert await open_holds(gateway.services, acme.tenant_id) == 0


async def test_a_failure_at_the_very_moment_of_a_comment_is_told_once_and_properly(
    gateway: Running, acme: Customer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    waits = [0.002 * number for number in range(200)]  # the first comment is due after 0.3
    random.Random(3).shuffle(waits)
    upstream.script = lambda _: [waits.pop(), refusal(500)]
    answers = []
    for _ in range(5):
        together = (gateway.client.post(CHAT, json=STREAM, headers=acme.headers) for _ in range(40))
        answers += await asyncio.gather(*together)
    for answer in answers:
        lines = data_lines(answer.text)
        error = json.loads(lines[-1] if lines else answer.text)["error"]
        assert (answer.status_code, error["code"]) == (200 if lines else 502, "upstream_error")
        assert "not charged" in error["message"]
    assert {answer.status_code for answer in answers} == {200, 502}, "the comment fell among them"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert (await balance(gateway.services, acme.tenant_id)).available == 1000 * MICRO


async def test_a_settlement_that_fails_ends_the_stream_in_an_error_and_not_in_done(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(stream(5, gap=0.1))
    async with gateway.client.stream("POST", CHAT, json=STREAM, headers=acme.headers) as answer:
        text = ""
        async for piece in answer.aiter_text():
            if not text:
                await gateway.services.writer.close()
            text += piece
    lines = data_lines(text)
    assert "[DONE]" not in lines and json.loads(lines[-1])["error"]["code"] == "service_unavailable"
    assert await usage_rows(gateway.services, acme.tenant_id) == []
    assert await open_holds(gateway.services, acme.tenant_id) == 1, "for the sweeper"


@pytest.mark.parametrize("how", [End.RESET, End.CLOSE])
async def test_an_answer_that_breaks_before_its_first_word_costs_nothing(
    gateway: Running, acme: Customer, upstream: Upstream, how: End
) -> None:
    upstream.queue.append(stream(5, gap=0.01, cut_after=0, end=how))
    answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    assert "not charged" in json.loads(data_lines(answer.text)[-1])["error"]["message"]
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.charge, row.outcome, row.usage_source) == (0, "cut", "none")
    assert (await balance(gateway.services, acme.tenant_id)).available == 1000 * MICRO


async def test_a_second_answer_on_the_same_connection_is_its_own(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue += [stream(3, done=2), stream(3, done=0)]
    for _ in range(3):
        answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
        assert data_lines(answer.text)[-1] == "[DONE]"
    rows = await usage_rows(gateway.services, acme.tenant_id)
    assert [row.charge for row in rows] == [11 * IN + 3 * OUT] * 2 + [ONE_ANSWER]
    assert upstream.connections == 1
