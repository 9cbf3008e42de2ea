"""Batches on SQLite: one statement, one commit, on a thread of its own.

The whole batch is one call into SQLite, during which the interpreter's lock is free: a thread that came back
between rows would wait for a busy event loop each time.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from api.db.batch import BatchRefused, DatabaseGone, encode
from api.db.engine import connect_sqlite

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Rows a prepared statement takes. A batch is filled up with rows of no kind, which nothing applies."""

_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)

_COMMON = ("kind", "tenant", "id", "request", "amount", "at")
_NOTHING = (None,) * 8


def _apply(size: int) -> str:
    return "INSERT INTO ledger_operations VALUES " + ",".join(["(?,?,?,?,?,?,?,?)"] * size)  # noqa: S608


def _moved(size: int) -> str:
    asked = "WITH asked(tenant_id, id) AS (VALUES " + ",".join(["(?,?)"] * size)
    # All in one row: fetching row by row would ask for the interpreter's lock as often.
    return (
        asked
        + ") SELECT COALESCE(group_concat(id || ' ' || amount, ' '), '') "
        + "FROM asked JOIN transfers USING (tenant_id, id)"
    )


_APPLY = {size: _apply(size) for size in _SIZES}
_MOVED = {size: _moved(size) for size in _SIZES}

Row = tuple[Any, ...]
_Job = tuple[Sequence[Row], "asyncio.Future[dict[str, int]]"]


class SqliteBatches:
    """Applies batches to the file at `path`. The thread lives until `close`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="ledger writer", daemon=True)
        self._thread.start()

    def encode(self, operation: Mapping[str, Any]) -> Row:
        """The fields all operations have, as they are; the budgets, if any, and the whole as JSON."""
        budgets = operation.get("budgets")
        common = [operation[name] for name in _COMMON]
        return (*common, encode(budgets) if budgets else None, encode(operation))

    async def apply(self, batch: Sequence[Row]) -> dict[str, int]:
        """One commit. Raises `DatabaseGone` when the file is locked, full or failing."""
        future: asyncio.Future[dict[str, int]] = self._loop.create_future()
        self._jobs.put((batch, future))
        # The commit goes on when the waiting is cancelled.
        return await asyncio.shield(future)

    async def close(self) -> None:
        """End the thread and close its connection."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, future = job
            try:
                moved = self._commit(batch)
            except Exception as error:
                meaning = _meaning(error)
                if isinstance(meaning, DatabaseGone):
                    self._disconnect()
                self._tell(future, None, meaning)
            else:
                self._tell(future, moved, None)
        self._disconnect()

    def _commit(self, batch: Sequence[Row]) -> dict[str, int]:
        if self._connection is None:
            self._connection = connect_sqlite(self._path)
        size = next(size for size in _SIZES if size >= len(batch))
        rows = [*batch, *(_NOTHING for _ in range(size - len(batch)))]
        self._connection.execute(_APPLY[size], [value for row in rows for value in row])
        asked = [value for row in rows for value in row[1:3]]
        moved = self._connection.execute(_MOVED[size], asked).fetchone()[0].split()
        return dict(zip(moved[::2], map(int, moved[1::2]), strict=True))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell(
        self, future: "asyncio.Future[dict[str, int]]", moved: dict[str, int] | None, error: Exception | None
    ) -> None:
        def tell() -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(moved or {})

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)


def _meaning(error: Exception) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.OperationalError) and (code is None or code & 0xFF in _TRANSIENT):
        return DatabaseGone(str(error))
    return BatchRefused(f"{type(error).__name__}: {error}")
