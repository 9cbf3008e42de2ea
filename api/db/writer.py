"""The group-commit writer: one per process, the only way holds and settlements reach the database.

Operations queue up while a batch commits and are the next batch when it is done: nobody waits for a timer,
and the price of a commit is shared by all who came meanwhile. A caller waits until its own operation is on
disk. Leaving early does not undo it: what is queued is applied.

An operation is a mapping with `kind`, `tenant`, `id`, `request`, `amount`, `at` and what its kind needs (the
revision that made the database's side describes them). Its `id` makes it safe to send again, which is what
happens after a lost connection, when nobody knows whether the batch was committed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from api import errors
from api.db.apply_postgresql import PostgresqlBatches
from api.db.apply_sqlite import SqliteBatches
from api.db.batch import BatchRefused, DatabaseGone
from api.db.engine import Database

log = logging.getLogger("api.db.writer")

MAX_BATCH = 256
MAX_PENDING = 8192
PATIENCE = 5.0
"""Seconds the database may be gone before new work is refused and waiting work is told so."""
DRAIN = 10.0
"""Seconds that closing waits for what is queued."""
_RETRY_FIRST, _RETRY_MOST = 0.05, 1.0

_MAY_BE_REFUSED = frozenset({"hold", "extend", "record"})
"""What may be turned away when it is too much. A resolution may not: its request already has its hold."""

Operation = Mapping[str, Any]


class OperationFailed(RuntimeError):
    """The database refused this operation and nothing of it happened: a mistake in the program."""


class Batches(Protocol):
    """A way to apply a batch in one commit. Raises `DatabaseGone` (send again) or `BatchRefused`."""

    def encode(self, operation: Operation) -> Any:
        """The operation as the database takes it. Raises ValueError or TypeError when it cannot be."""

    async def apply(self, batch: Sequence[Any]) -> dict[str, int]:
        """Amounts moved, by operation id; an operation that did nothing is not in it."""

    async def close(self) -> None:
        """Give the connection back."""


class _Queued:
    __slots__ = ("encoded", "future", "id", "kind", "request", "tenant")

    def __init__(self, operation: Operation, encoded: Any, future: "asyncio.Future[int | None]") -> None:
        self.kind: str = operation["kind"]
        self.tenant: str = operation["tenant"]
        self.id: str = operation["id"]
        self.request: str = operation["request"]
        self.encoded, self.future = encoded, future


class Writer:
    """Takes operations and answers when they are committed. Belongs to the loop it was opened on."""

    def __init__(self, batches: Batches, turn: asyncio.Lock) -> None:
        self._batches, self._turn = batches, turn
        self._queue: deque[_Queued] = deque()
        self._in_batch = 0
        self._gone = self._closing = False
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[None] | None = None
        self._task = self._loop.create_task(self._run(), name="group-commit writer")

    @property
    def pending(self) -> int:
        """Operations that are queued or being committed."""
        return len(self._queue) + self._in_batch

    @property
    def healthy(self) -> bool:
        """Whether the database has answered lately and the writer is open."""
        return not (self._gone or self._closing)

    async def submit(self, operation: Operation) -> int | None:
        """Apply `operation`; micro-credits it moved, None when it did nothing. Committed when it returns.

        Queued before the first await. Raises ApiError 503 when the queue is full or the database gone, and
        `OperationFailed` when the database will not have it; nothing happened then.
        """
        return await self._enqueue(operation)

    def post(self, operation: Operation) -> None:
        """Queue `operation` without waiting for it; what goes wrong is logged."""
        self._enqueue(operation).add_done_callback(_log_failure)

    async def close(self) -> None:
        """Commit what is queued, for at most `DRAIN` seconds, then stop; later operations are refused."""
        self._closing = True
        self._rouse()
        done, _ = await asyncio.wait({self._task}, timeout=DRAIN)
        if not done:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail(list(self._queue))
        self._queue.clear()
        await self._batches.close()

    def _enqueue(self, operation: Operation) -> "asyncio.Future[int | None]":
        if self._closing or (
            operation["kind"] in _MAY_BE_REFUSED and (self._gone or len(self._queue) >= MAX_PENDING)
        ):
            raise _unavailable()
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._queue.append(_Queued(operation, self._batches.encode(operation), future))
        self._rouse()
        return future

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake = self._loop.create_future()
                await self._wake
                continue
            batch = self._next_batch()
            self._in_batch = len(batch)
            try:
                await self._commit(batch)
            except Exception:
                log.exception("batch failed")  # and the next one is tried: nobody else would write it
            finally:
                self._fail(batch)
                self._in_batch = 0

    def _next_batch(self) -> list[_Queued]:
        batch: list[_Queued] = []
        requests: set[str] = set()
        # At most one operation of a request: the database's side relies on it.
        while self._queue and len(batch) < MAX_BATCH and self._queue[0].request not in requests:
            batch.append(self._queue.popleft())
            requests.add(batch[-1].request)
        # Two processes that lock the same wallets take them in the same order; the order of one tenant's
        # operations stays.
        batch.sort(key=_tenant)
        return batch

    async def _commit(self, batch: list[_Queued]) -> None:
        try:
            await self._commit_at_last(batch)
        except BatchRefused:
            # One of them is bad. Each alone: the others are served, and the culprit is told.
            for queued in batch:
                try:
                    await self._commit_at_last([queued])
                except BatchRefused as error:
                    log.error("operation refused", extra={"kind": queued.kind, "reason": str(error)})
                    if not queued.future.done():
                        queued.future.set_exception(OperationFailed(str(error)))

    async def _commit_at_last(self, batch: list[_Queued]) -> None:
        """Send the batch until the database has answered; meanwhile the impatient are told."""
        pause, waited = _RETRY_FIRST, 0.0
        while batch:
            try:
                async with self._turn:
                    moved = await self._batches.apply([queued.encoded for queued in batch])
            except DatabaseGone as error:
                log.warning("database gone", extra={"reason": str(error), "waited": waited})
                await asyncio.sleep(pause)
                waited, pause = waited + pause, min(pause * 2, _RETRY_MOST)
                if waited >= PATIENCE:
                    batch = self._give_up(batch)
                continue
            self._gone = False
            for queued in batch:
                if not queued.future.done():
                    queued.future.set_result(moved.get(queued.id))
            return

    def _give_up(self, batch: list[_Queued]) -> list[_Queued]:
        """Tell everybody who may be refused; the resolutions among `batch`, to be sent again."""
        self._gone = True
        waiting = [*batch, *self._queue]
        self._fail([queued for queued in waiting if queued.kind in _MAY_BE_REFUSED])
        self._queue = deque(queued for queued in self._queue if queued.kind not in _MAY_BE_REFUSED)
        return [queued for queued in batch if queued.kind not in _MAY_BE_REFUSED]

    def _fail(self, queued: Sequence[_Queued]) -> None:
        for each in queued:
            if not each.future.done():
                each.future.set_exception(_unavailable())


async def open_writer(database: Database) -> Writer:
    """The writer of this process, on its own connection, which is made when the first operation comes."""
    batches: Batches = SqliteBatches(database.url) if database.is_sqlite else PostgresqlBatches(database.url)
    return Writer(batches, database.write_turn if database.is_sqlite else asyncio.Lock())


def _tenant(queued: _Queued) -> str:
    return queued.tenant


def _unavailable() -> errors.ApiError:
    return errors.unavailable("service_unavailable", "The service is temporarily unavailable. Retry shortly.")


def _log_failure(future: "asyncio.Future[int | None]") -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("posted operation failed", extra={"reason": str(error)})
