"""`kill -9` at any moment loses no answer that was given, and holds nobody's money for ever."""

import asyncio
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import update

from api import ledger
from api.db.engine import Database, open_database, sqlite_path
from api.db.system import system_session
from api.db.writer import open_writer
from api.gateway.admission import HOLD_GRACE
from api.settings import Settings
from api.tables import JobLease
from api.tenants.secrets import load_secret
from api.types import now
from tests.running import Customer, customer
from tests.upstream import Upstream
from tests.whole.load import Callers, broken_promises, held_requests, vendor
from tests.whole.process import Forks, forks

CALLERS = 32
EARLIEST, LATEST = 0.08, 0.5
DEADLINE = 20.0


@pytest.fixture
async def books(database_settings: Settings) -> AsyncIterator[Database]:
    """The server's database, seen from outside."""
    opened = open_database(database_settings)
    yield opened
    await opened.close()


@pytest.fixture
async def acme(database_settings: Settings, books: Database) -> Customer:
    """An organization that can pay for all of it."""
    roots = SimpleNamespace(database=books, secret=load_secret(database_settings))
    return await customer(cast(Any, roots), credits="100000")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("database_settings", "kills"), [("sqlite", 40), ("postgresql", 20)], indirect=["database_settings"]
)
async def test_a_killed_server_has_kept_every_answer_it_gave(
    database_settings: Settings,
    books: Database,
    acme: Customer,
    upstream: Upstream,
    chance: random.Random,
    kills: int,
    tmp_path: Path,
) -> None:
    upstream.script = vendor(chance)
    vendors = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-secret"}
    settings = database_settings.model_copy(update={"vendors": vendors})
    callers = Callers(acme.headers, chance)
    async with forks(settings, tmp_path / "server.log", CALLMISSED_REQUEST_DEADLINE=str(DEADLINE)) as server:
        for number in range(kills):
            await server.start()
            await kill_under_load(server, callers)
            await check_books(settings, books, acme, callers, f"after kill {number}")
        # Kills met answers just given and answers on their way, or nothing was proved.
        left_open = await held_requests(books, acme.tenant_id)
        assert len(callers.told) > 3 * kills and callers.streams > kills // 2 and left_open > kills
        await let_leases_run_out(books)
        await server.start()
        await free_what_the_dead_held(books, acme)
        server.send(signal.SIGTERM)
        assert await server.end() == 0
    await check_books(settings, books, acme, callers, "in the end")
    print(f"{kills} kills, {len(callers.told)} answers, {callers.streams} streamed; {left_open} holds left")


async def kill_under_load(server: Forks, callers: Callers) -> None:
    """The server is dead afterwards: killed at any moment, or in the one in which an answer came."""
    calling = asyncio.create_task(callers.call_until_cut(server.url, CALLERS))
    await next_answer(callers, lambda: None)
    await asyncio.sleep(callers.chance.uniform(EARLIEST, LATEST))
    if callers.chance.random() < 0.5:
        server.send(signal.SIGKILL)
    else:
        await next_answer(callers, lambda: server.send(signal.SIGKILL))
    assert await server.end() == -signal.SIGKILL
    await calling


async def next_answer(callers: Callers, then: Callable[[], None]) -> None:
    """Does `then` in the moment the next answer comes."""
    come = asyncio.Event()

    def both() -> None:
        then()
        come.set()

    callers.then = both
    async with asyncio.timeout(30):
        await come.wait()


async def check_books(
    settings: Settings, books: Database, acme: Customer, callers: Callers, when: str
) -> None:
    assert await broken_promises(books, acme.tenant_id, callers.told) == [], when
    assert (await ledger.verify(books)).drift == [], when
    if books.is_sqlite:
        with sqlite3.connect(sqlite_path(settings)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], when
        connection.close()


async def let_leases_run_out(books: Database) -> None:
    """As if the time had passed for which the dead process holds its jobs."""
    async with system_session(books, "jobs", writes=True) as session:
        await session.execute(update(JobLease).values(until=0))


async def free_what_the_dead_held(books: Database, acme: Customer) -> None:
    """No hold is open afterwards: freed by the new server on SQLite, once they have expired on PostgreSQL."""
    if not books.is_sqlite:
        writer = await open_writer(books)
        await ledger.sweep(books, writer, now=now() + int(DEADLINE * 1000) + HOLD_GRACE)
        await writer.close()
    async with asyncio.timeout(10):
        while await held_requests(books, acme.tenant_id):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
