"""Hold + settle pairs a second on one hot tenant: the group-commit writer, and one transaction per step.

    python -m tests.bench.ledger [--callers 128] [--seconds 3] [--sqlite-only]

Every settle writes a usage row, every answer is on disk (fsync on, on both databases). The books are verified
after each run. `CPU` is this process's alone.
"""

import argparse
import asyncio
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import uvloop

from api import ledger
from api.db.apply_postgresql import PostgresqlBatches
from api.db.apply_sqlite import SqliteBatches
from api.db.engine import Database, open_database
from api.db.migrate import migrate
from api.db.writer import open_writer
from api.settings import Settings, load_settings
from api.types import new_id, now
from tests import servers
from tests.factories import give, make_prices, make_tenant, usage

HOLD, COST = 700, 300

Pair = Callable[[UUID], Awaitable[None]]


@asynccontextmanager
async def grouped(database: Database, tenant_id: UUID) -> AsyncIterator[Pair]:
    """Pairs through the product's writer."""
    writer = await open_writer(database)
    context, row = usage(), usage(COST)

    async def pair(request_id: UUID) -> None:
        held = await ledger.hold(
            writer,
            tenant_id=tenant_id,
            request_id=request_id,
            amount=HOLD,
            context=context,
            expires_at=now() + 600_000,
        )
        if not held:
            raise RuntimeError("refused")
        await ledger.settle(writer, tenant_id=tenant_id, request_id=request_id, cost=COST, usage=row)

    yield pair
    await writer.close()


@asynccontextmanager
async def stepwise(database: Database, tenant_id: UUID) -> AsyncIterator[Pair]:
    """The same operations, one transaction each: SQLite in turns, PostgreSQL on 16 connections."""
    count = 1 if database.is_sqlite else 16
    kind = SqliteBatches if database.is_sqlite else PostgresqlBatches
    free: asyncio.Queue[SqliteBatches | PostgresqlBatches] = asyncio.Queue()
    for _ in range(count):
        free.put_nowait(kind(database.url))

    async def step(operation: dict[str, object]) -> None:
        batches = await free.get()
        try:
            await batches.apply([batches.encode(operation)])  # type: ignore[list-item]
        finally:
            free.put_nowait(batches)

    async def pair(request_id: UUID) -> None:
        common = {"tenant": tenant_id.hex, "request": request_id.hex, "at": now()}
        hold = {"kind": "hold", "id": request_id.hex, "amount": HOLD, "budgets": [], "context": usage()}
        await step({**common, **hold, "expires_at": now() + 600_000})
        settle = {"kind": "settle", "id": new_id().hex, "amount": COST, "overrun": new_id().hex}
        await step({**common, **settle, "usage": usage(COST)})

    yield pair
    while not free.empty():
        await free.get_nowait().close()


async def measure(settings: Settings, way: Callable[..., object], callers: int, seconds: float) -> str:
    """One run; its line of the table."""
    database = open_database(settings)
    await make_prices(database)
    tenant_id = await make_tenant(database)
    await give(database, tenant_id, 10**15)
    times: list[float] = []
    async with way(database, tenant_id) as pair:  # type: ignore[attr-defined]
        for _ in range(20):
            await pair(new_id())
        end = time.perf_counter() + seconds
        begun, burnt = time.perf_counter(), _cpu()

        async def caller() -> None:
            while (at := time.perf_counter()) < end:
                await pair(new_id())
                times.append(time.perf_counter() - at)

        await asyncio.gather(*(caller() for _ in range(callers)))
        took, burnt = time.perf_counter() - begun, _cpu() - burnt
    report = await ledger.verify(database)
    await database.close()
    if report.drift:
        raise RuntimeError(f"the books do not add up: {report.drift}")
    times.sort()
    half, most = times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000
    return (
        f"{len(times) / took:>10,.0f} pairs/s   p50 {half:6.2f} ms   p99 {most:7.2f} ms   "
        f"CPU {burnt / len(times) * 1e6:4.0f} µs a pair"
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sqlite-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callmissed-bench-") as folder:
        embedded = load_settings(data_dir=Path(folder) / "sqlite", database_url=None)
        _report("SQLite", embedded, options)
        if options.sqlite_only:
            return
        given = os.environ.get("CALLMISSED_TEST_DATABASE_URL")
        if given:
            raise SystemExit("the bench makes its own PostgreSQL; unset CALLMISSED_TEST_DATABASE_URL")
        with servers.postgresql(durable=True) as url:
            _report("PostgreSQL", load_settings(data_dir=Path(folder), database_url=url), options)


def _report(name: str, settings: Settings, options: argparse.Namespace) -> None:
    migrate(settings)
    for label, way in (("group commit", grouped), ("one per step", stepwise)):
        line = uvloop.run(measure(settings, way, options.callers, options.seconds))
        print(f"{name:<11}{label:<13}{options.callers:>4} callers {line}", flush=True)


if __name__ == "__main__":
    main()
