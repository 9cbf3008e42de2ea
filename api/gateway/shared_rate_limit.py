"""Owns rate limits that several workers share: one Lua script on Redis or Valkey, on the server's clock.

Whatever waits is sent together as one atomic script call, the next when the last has answered: the order of
one worker's operations is kept, and under load many cost one round trip. Every key carries an expiry.
When the store does not answer, each worker admits its share of every limit from its own memory, and returns
to the store by itself; an outage admits at most one more `limit` in its window, and never opens.
"""

import asyncio
import hashlib
import logging
import secrets
import sys
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from api.gateway.rate_limit import MemoryLimiter, monotonic
from api.types import Clock

_log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 1.0
"""How long the store may take before this worker counts by itself."""

BEAT_SECONDS = 2.0
"""How often a worker says that it lives, and asks whether a silent store is back."""

LEASE_SECONDS = 10.0
"""How long the calls in flight of a worker count after its last sign of life."""

_BATCH = 200  # operations a script call carries: keeps the single-threaded store free for others
_WORKERS_KEY = "cm:workers"

_SCRIPT = Path(__file__).with_suffix(".lua").read_text()
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # the name EVALSHA knows it by

_Verb = Literal["take", "give_back", "used", "enter", "in_flight", "hold", "alive", "gone"]


@dataclass(slots=True, eq=False)
class _Operation:
    verb: _Verb
    key: str
    bucket: str = ""
    number: int = 0
    """A limit, or for `hold` the calls in flight here."""
    window: float = 0.0
    answer: asyncio.Future[int] | None = None


class SharedLimiter:
    """Counts on Redis for all workers; see `Limiter` for the promises."""

    def __init__(self, url: str, workers: int, clock: Clock = monotonic) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._local = MemoryLimiter(clock)
        self._configured_workers = self._workers = workers
        self._name = secrets.token_hex(8)
        self._waiting: deque[_Operation] = deque()
        self._unsaid: set[str] = set()  # buckets whose calls in flight the store may have wrong
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self.reachable = True
        """Whether the store answered last time; while not, this worker counts by itself."""

    def take_now(self, bucket: str, limit: int, window_seconds: float = 60.0) -> float | None:
        if self.reachable:
            return None
        return self._local.take_now(bucket, self._share(limit), window_seconds)

    async def take(self, bucket: str, limit: int, window_seconds: float = 60.0) -> float:
        known = self.take_now(bucket, limit, window_seconds)
        if known is not None:
            return known
        key = _rate_key(bucket, window_seconds)
        return await self._ask(_Operation("take", key, bucket, limit, window_seconds)) / 1000

    async def give_back(self, bucket: str, window_seconds: float = 60.0) -> None:
        if self.reachable:
            key = _rate_key(bucket, window_seconds)
            self._send(_Operation("give_back", key, bucket, window=window_seconds))
        else:
            await self._local.give_back(bucket, window_seconds)

    def enter_now(self, bucket: str, limit: int) -> bool | None:
        return None if self.reachable else self._local.enter_now(bucket, self._share(limit))

    async def enter(self, bucket: str, limit: int) -> bool:
        known = self.enter_now(bucket, limit)
        if known is not None:
            return known
        operation = _Operation("enter", _busy_key(bucket), bucket, limit)
        try:
            return bool(await self._ask(operation))
        except asyncio.CancelledError:
            answer = operation.answer
            if answer is not None and not answer.cancelled() and answer.done() and answer.result():
                self.leave(bucket)  # admitted, but nobody is left to leave
            raise

    def leave(self, bucket: str) -> None:
        self._local.leave(bucket)
        self._unsaid.add(bucket)
        self._start()

    async def used(self, bucket: str, window_seconds: float = 60.0) -> int:
        if not self.reachable:
            return await self._local.used(bucket, window_seconds)
        return await self._ask(
            _Operation("used", _rate_key(bucket, window_seconds), bucket, window=window_seconds)
        )

    async def in_flight(self, bucket: str) -> int:
        if not self.reachable:
            return await self._local.in_flight(bucket)
        return await self._ask(_Operation("in_flight", _busy_key(bucket), bucket))

    async def close(self) -> None:
        self._closing = True
        if self._tasks:
            self._unsaid.update(self._local.busy)
            await self._local.close()
            self._waiting.append(_Operation("gone", _WORKERS_KEY))
            self._wake.set()
            self._tasks[1].cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reachable = False
        await self._redis.aclose()

    def _share(self, limit: int) -> int:
        return limit // self._workers or min(limit, 1)

    async def _ask(self, operation: _Operation) -> int:
        operation.answer = asyncio.get_running_loop().create_future()
        self._send(operation)
        return await operation.answer

    def _send(self, operation: _Operation) -> None:
        self._waiting.append(operation)
        self._start()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._serve()), asyncio.create_task(self._beat())]
        if self.reachable:
            self._wake.set()

    async def _beat(self) -> None:
        while True:
            self._unsaid.update(self._local.busy)
            self._waiting.append(_Operation("alive", _WORKERS_KEY))
            self._wake.set()
            await asyncio.sleep(BEAT_SECONDS)

    async def _serve(self) -> None:
        this = asyncio.current_task()
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting or self._unsaid:
                await self._exchange(self._next_batch())
                if this is not None and this.cancelling():
                    return  # the client may swallow a cancellation
                if not self.reachable:
                    break  # the next beat asks again; until then nobody waits

    def _next_batch(self) -> list[_Operation]:
        # One batch at a time, so the count here is exact now: stating it first mends whatever the store
        # missed (a lost answer, a restart, a lapsed lease) before anybody is admitted on top of it.
        operations = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        operations = [one for one in operations if one.answer is None or not one.answer.cancelled()]
        self._unsaid.update(one.bucket for one in operations if one.verb == "enter")
        busy = self._local.busy
        holds = [_Operation("hold", _busy_key(name), name, busy.get(name, 0)) for name in self._unsaid]
        self._unsaid.clear()
        return holds + operations

    async def _exchange(self, batch: list[_Operation]) -> None:
        try:
            answers = await self._run_script(batch)
            for operation, answer in zip(batch, answers, strict=True):
                self._deliver(operation, answer)
        except asyncio.CancelledError:
            self._answer_all_here(batch)
            raise
        except Exception as error:  # whatever broke, callers wait for an answer
            if self.reachable:
                _log.warning("rate limits are counted by each worker", extra={"reason": type(error).__name__})
            self.reachable = False
            self._unsaid.update(one.bucket for one in batch if one.verb in ("enter", "hold"))
            self._answer_all_here([*batch, *self._waiting])
            self._waiting.clear()
            return
        if not self.reachable:
            _log.info("rate limits are shared again")
            self.reachable = True

    async def _run_script(self, batch: list[_Operation]) -> list[int]:
        if not batch:
            return []
        keys = [operation.key for operation in batch]
        arguments: list[str | int] = [self._name, int(LEASE_SECONDS * 1000)]
        for operation in batch:
            arguments += (operation.verb, operation.number, int(operation.window * 1000))
        try:
            answers = self._redis.evalsha(_SHA, len(keys), *keys, *arguments)
            return await cast(Awaitable[list[int]], answers)
        except NoScriptError:  # the store is new or restarted; this also teaches it the script
            answers = self._redis.eval(_SCRIPT, len(keys), *keys, *arguments)
            return await cast(Awaitable[list[int]], answers)

    def _deliver(self, operation: _Operation, answer: int) -> None:
        if operation.verb == "alive":
            self._workers = max(self._configured_workers, answer)
        waiter = operation.answer
        if waiter is None or waiter.done():
            if operation.verb == "enter":
                self._unsaid.add(operation.bucket)  # the store may count a call that nobody waits for
            return
        if operation.verb == "enter" and answer:
            self._local.enter_now(operation.bucket, sys.maxsize)
        waiter.set_result(answer)

    def _answer_all_here(self, operations: Iterable[_Operation]) -> None:
        for operation in operations:
            waiter = operation.answer
            if waiter is not None and not waiter.done():
                waiter.set_result(self._answer_here(operation))

    def _answer_here(self, operation: _Operation) -> int:
        bucket, share = operation.bucket, self._share(operation.number)
        if operation.verb == "take":
            return round(self._local.take_now(bucket, share, operation.window) * 1000)
        if operation.verb == "enter":
            return self._local.enter_now(bucket, share)
        if operation.verb == "used":
            return self._local.count(bucket, operation.window)
        return self._local.busy.get(bucket, 0)


def _rate_key(bucket: str, window_seconds: float) -> str:
    return f"cm:rate:{window_seconds:g}:{bucket}"


def _busy_key(bucket: str) -> str:
    return f"cm:busy:{bucket}"
