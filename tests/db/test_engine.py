"""The engine keeps the promises the books rely on."""

import asyncio

import pytest
from sqlalchemy import text

from api.db.engine import Database, connect_sqlite, driver_address, open_database
from api.db.system import system_session
from api.settings import Settings
from api.tables import PriceVersion

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": 30_000,
    "recursive_triggers": 1,
}


async def test_every_pooled_connection_has_the_pragmas(sqlite_settings: Settings) -> None:
    database = open_database(sqlite_settings)
    connections = [await database.engine.connect() for _ in range(12)]
    for connection in connections:
        for name, wanted in PRAGMAS.items():
            assert (await connection.execute(text(f"PRAGMA {name}"))).scalar() == wanted
    for connection in connections:
        await connection.close()
    await database.close()


def test_the_writers_connection_has_the_pragmas(sqlite_settings: Settings) -> None:
    connection = connect_sqlite(open_database(sqlite_settings).url)
    for name, wanted in PRAGMAS.items():
        assert connection.execute(f"PRAGMA {name}").fetchone()[0] == wanted
    connection.close()


async def test_postgresql_commits_are_on_disk_when_told_and_read_committed(
    postgresql_settings: Settings,
) -> None:
    database = open_database(postgresql_settings)
    async with database.engine.connect() as connection:
        for name, wanted in {"synchronous_commit": "on", "transaction_isolation": "read committed"}.items():
            assert (await connection.execute(text(f"SHOW {name}"))).scalar() == wanted
    await database.close()


async def test_a_connection_without_a_tenant_sees_and_writes_nothing(postgresql_settings: Settings) -> None:
    database = open_database(postgresql_settings)
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT current_user"))).scalar() == "callmissed_app"
        assert (await connection.execute(text("SELECT count(*) FROM users"))).scalar() == 0
    await database.close()


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql://u:p@h:1/d?sslmode=require", "postgresql://u:p@h:1/d?sslmode=require"),
        ("postgres://u@a,b/d", "postgresql://u@a,b/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql://u@h/d"),
    ],
)
def test_the_address_keeps_what_the_operator_said(given: str, driver: str) -> None:
    assert driver_address(given) == driver


@pytest.mark.parametrize("given", ["mysql://h/d", "h/d", "sqlite:///x", ""])
def test_another_database_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="CALLMISSED_DATABASE_URL"):
        driver_address(given)


async def test_two_writing_transactions_take_turns_on_sqlite(database: Database) -> None:
    async def read_then_write(number: int) -> None:
        async with system_session(database, "catalog", writes=True) as session:
            await session.get(PriceVersion, "none")
            await asyncio.sleep(0)
            session.add(PriceVersion(id=str(number), model="m"))

    await asyncio.gather(*(read_then_write(number) for number in range(20)))
