"""Owns how often a bucket may be used: exact sliding windows, and calls in flight.

A bucket is any name (`key:<id>`, `login:<address>`); it appears in the store, so it is never a secret.
Windows are exact to the millisecond: in no window of the given length are more than `limit` takes
admitted, and a refused take leaves no trace. One process counts in memory; several count on Redis.
"""

import time
from collections import OrderedDict, deque
from itertools import islice
from typing import Protocol

from api.settings import Settings
from api.types import Clock, Milliseconds

MAX_BUCKETS = 50_000
"""Buckets one window length keeps in memory; beyond it, those that fall idle soonest are forgotten."""


class Limiter(Protocol):
    """Counts uses of buckets. `…_now` answers without waiting, or None where only awaiting can tell."""

    def take_now(self, bucket: str, limit: int, window_seconds: float = 60.0) -> float | None:
        """Like `take`, or None when it must be awaited."""

    async def take(self, bucket: str, limit: int, window_seconds: float = 60.0) -> float:
        """Consume one use: 0.0 when admitted, else the seconds until a slot frees (nothing consumed)."""

    async def give_back(self, bucket: str, window_seconds: float = 60.0) -> None:
        """Undo the newest take of the bucket; meant for right after it, when another limit refused."""

    def enter_now(self, bucket: str, limit: int) -> bool | None:
        """Like `enter`, or None when it must be awaited."""

    async def enter(self, bucket: str, limit: int) -> bool:
        """Count one more call in flight unless `limit` are; True must be followed by one `leave`."""

    def leave(self, bucket: str) -> None:
        """The call that entered is over. Raises LookupError when none had entered here."""

    async def used(self, bucket: str, window_seconds: float = 60.0) -> int:
        """Takes that count against the limit at this moment."""

    async def in_flight(self, bucket: str) -> int:
        """Calls that entered and have not left, over all workers."""

    async def close(self) -> None:
        """Stop; calls that are still in flight here no longer count anywhere."""


def monotonic() -> Milliseconds:
    """Milliseconds that no change of the system's clock moves; only differences mean anything."""
    return time.monotonic_ns() // 1_000_000


def open_limiter(settings: Settings, clock: Clock = monotonic) -> Limiter:
    """The limiter of this process: on Redis when the settings name one, else in memory.

    `clock` drives what is counted here; it must not jump. On Redis the server's own clock counts.
    """
    if settings.redis_url is None:
        return MemoryLimiter(clock)
    from api.gateway.shared_rate_limit import SharedLimiter  # the client is large; one process needs none

    return SharedLimiter(settings.redis_url.get_secret_value(), settings.workers, clock)


class MemoryLimiter:
    """Counts in this process. Memory is bounded by the takes of the last window and by `MAX_BUCKETS`."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._windows: dict[float, OrderedDict[str, deque[Milliseconds]]] = {}
        self._busy: dict[str, int] = {}

    def take_now(self, bucket: str, limit: int, window_seconds: float = 60.0) -> float:
        """Never None: memory always knows."""
        now = self._clock()
        window = int(window_seconds * 1000)
        idle_since = now - window
        buckets = self._windows.get(window_seconds)
        if buckets is None:
            buckets = self._windows[window_seconds] = OrderedDict()
        stamps = buckets.get(bucket)
        if stamps is None:
            if limit < 1:
                return window_seconds
            stamps = buckets[bucket] = deque()
        else:
            while stamps and stamps[0] <= idle_since:
                stamps.popleft()
            if len(stamps) >= limit:
                oldest_in_the_way = stamps[len(stamps) - limit] if limit > 0 else now
                return (oldest_in_the_way + window - now) / 1000
            buckets.move_to_end(bucket)
        stamps.append(now)
        _forget_idle(buckets, idle_since)
        return 0.0

    async def take(self, bucket: str, limit: int, window_seconds: float = 60.0) -> float:
        return self.take_now(bucket, limit, window_seconds)

    async def give_back(self, bucket: str, window_seconds: float = 60.0) -> None:
        stamps = self._stamps(bucket, window_seconds)
        if stamps:
            stamps.pop()

    def enter_now(self, bucket: str, limit: int) -> bool:
        """Never None: memory always knows."""
        busy = self._busy.get(bucket, 0)
        if busy >= limit:
            return False
        self._busy[bucket] = busy + 1
        return True

    async def enter(self, bucket: str, limit: int) -> bool:
        return self.enter_now(bucket, limit)

    def leave(self, bucket: str) -> None:
        busy = self._busy.get(bucket)
        if busy is None:
            raise LookupError(f"no call is in flight in {bucket}")
        if busy == 1:
            del self._busy[bucket]
        else:
            self._busy[bucket] = busy - 1

    async def used(self, bucket: str, window_seconds: float = 60.0) -> int:
        return self.count(bucket, window_seconds)

    def count(self, bucket: str, window_seconds: float) -> int:
        """Like `used`, at once."""
        idle_since = self._clock() - int(window_seconds * 1000)
        return sum(stamp > idle_since for stamp in self._stamps(bucket, window_seconds) or ())

    async def in_flight(self, bucket: str) -> int:
        return self._busy.get(bucket, 0)

    async def close(self) -> None:
        self._windows.clear()
        self._busy.clear()

    @property
    def busy(self) -> dict[str, int]:
        """Calls in flight of every bucket that has any."""
        return self._busy

    @property
    def bucket_count(self) -> int:
        """Buckets held in memory, over all windows."""
        return sum(len(buckets) for buckets in self._windows.values())

    def _stamps(self, bucket: str, window_seconds: float) -> deque[Milliseconds] | None:
        buckets = self._windows.get(window_seconds)
        return None if buckets is None else buckets.get(bucket)


def _forget_idle(buckets: OrderedDict[str, deque[Milliseconds]], idle_since: Milliseconds) -> None:
    # The order is that of the last admission, so the front falls idle first. An admission adds at most one
    # bucket and forgets up to two: the number held follows the number in use without ever scanning them.
    for oldest in list(islice(buckets, 2)):
        stamps = buckets[oldest]
        if stamps and stamps[-1] > idle_since and len(buckets) <= MAX_BUCKETS:
            return
        del buckets[oldest]
