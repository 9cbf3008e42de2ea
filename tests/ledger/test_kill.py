"""SIGKILL at any moment: what was acknowledged is there, nothing is half done, what was held is freed."""

import asyncio
import multiprocessing
import os
import random
import sqlite3
import time
from multiprocessing.connection import Connection
from uuid import UUID

import asyncpg
import uvloop
from sqlalchemy import select

from api import ledger
from api.db.engine import Database, open_database
from api.db.session import tenant_session
from api.db.writer import Writer, open_writer
from api.settings import Settings
from api.tables import Transfer
from api.types import new_id, now
from tests.factories import give, make_prices, make_tenant, usage

ROUNDS, CALLERS, TENANTS = 20, 32, 3
WEALTH = 10**12

# A process that has everything imported and forks the victims: they are at work within milliseconds.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.ledger.test_kill"])


async def _work(settings: Settings, tenants: list[UUID], acknowledged: int) -> None:
    database = open_database(settings)
    writer = await open_writer(database)
    await asyncio.gather(*(_call(writer, tenants, acknowledged) for _ in range(CALLERS)))


async def _call(writer: Writer, tenants: list[UUID], acknowledged: int) -> None:
    while True:
        request_id, tenant_id, cost = new_id(), random.choice(tenants), random.randrange(200)
        await ledger.hold(
            writer,
            tenant_id=tenant_id,
            request_id=request_id,
            amount=100,
            context=usage(),
            expires_at=now() - 1,
        )
        os.write(acknowledged, f"hold {request_id.hex} 100\n".encode())
        charge = await ledger.settle(
            writer, tenant_id=tenant_id, request_id=request_id, cost=cost, usage=usage(cost)
        )
        os.write(acknowledged, f"settle {request_id.hex} {charge}\n".encode())


def _kill_one(settings: Settings, tenants: list[UUID]) -> list[list[str]]:
    """Start a victim, kill it in full flight; what it had acknowledged."""
    reader, pipe = multiprocessing.Pipe(duplex=False)
    victim = _forks.Process(target=_victim, args=(settings, tenants, pipe), daemon=True)
    victim.start()
    pipe.close()
    told = b""
    deadline = None
    while True:
        block = os.read(reader.fileno(), 1 << 20)
        if not block:
            break
        told += block
        deadline = deadline or time.monotonic() + random.uniform(0.0, 0.25)
        if time.monotonic() >= deadline:
            victim.kill()
    victim.join()
    assert victim.exitcode == -9
    reader.close()
    return [line.split() for line in told.decode().split("\n")[:-1]]


def _victim(settings: Settings, tenants: list[UUID], pipe: Connection) -> None:
    """Hold and settle until killed; every answer is written to the pipe as it comes."""
    uvloop.run(_work(settings, tenants, pipe.fileno()))


async def _prepare(settings: Settings) -> list[UUID]:
    database = open_database(settings)
    await make_prices(database)
    tenants = [await make_tenant(database) for _ in range(TENANTS)]
    for tenant_id in tenants:
        await give(database, tenant_id, WEALTH)
    await database.close()
    return tenants


async def _audit(settings: Settings, tenants: list[UUID], acknowledged: list[list[str]]) -> int:
    database = open_database(settings)
    await _settle_down(database)
    report = await ledger.verify(database)
    assert report.drift == []
    written = await _written(database, tenants)
    missing = [line for line in acknowledged if tuple(line) not in written]
    assert missing == []
    writer = await open_writer(database)
    orphans = await ledger.sweep(database, writer, now=now())
    await writer.close()
    report = await ledger.verify(database)
    assert (report.drift, report.checked["open_holds"]) == ([], 0)
    await database.close()
    return orphans


async def _written(database: Database, tenants: list[UUID]) -> set[tuple[str, ...]]:
    """Movements as they were acknowledged: kind, request, amount."""
    found: set[tuple[str, ...]] = set()
    for tenant_id in tenants:
        async with tenant_session(database, tenant_id) as session:
            rows = await session.execute(select(Transfer.kind, Transfer.reference, Transfer.amount))
            found |= {(kind, reference, str(amount)) for kind, reference, amount in rows}
    return found


async def _settle_down(database: Database) -> None:
    """A killed client's last statement may still be at work in the server."""
    if database.is_sqlite:
        connection = sqlite3.connect(database.url)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        return
    connection = await asyncpg.connect(database.url)
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%ledger_apply%' AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(10):
        while await connection.fetchval(f"{busy} AND datname = current_database()"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await connection.close()


def test_twenty_kills_lose_and_double_nothing(database_settings: Settings) -> None:
    tenants = asyncio.run(_prepare(database_settings))
    answered = orphans = 0
    for _ in range(ROUNDS):
        acknowledged = _kill_one(database_settings, tenants)
        answered += len(acknowledged)
        orphans += asyncio.run(_audit(database_settings, tenants, acknowledged))
    assert answered > ROUNDS * CALLERS
    assert orphans > 0
