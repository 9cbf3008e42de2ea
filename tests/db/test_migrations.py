"""Migrations and tables say the same, up and down, on both databases."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import inspect, text

from api.db.migrate import downgrade, migrate, migration_engine
from api.settings import Settings
from api.tables import GLOBAL, metadata
from tests import servers


@pytest.fixture(params=["sqlite", "postgresql"])
def unmigrated(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings of a database without a table, of each kind in turn."""
    if request.param == "sqlite":
        yield settings
    else:
        server = request.getfixturevalue("postgres_url")
        with servers.new_database(server, f"callmissed_unmigrated_{os.getpid()}") as url:
            yield settings.model_copy(update={"database_url": SecretStr(url)})


async def _tables(settings: Settings) -> set[str]:
    engine = migration_engine(settings)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    await engine.dispose()
    return names


async def test_the_migrated_database_is_what_the_tables_say(database_settings: Settings) -> None:
    engine = migration_engine(database_settings)
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await engine.dispose()
    assert differences == []


def test_up_down_to_nothing_and_up_again(unmigrated: Settings) -> None:
    for _ in range(2):
        migrate(unmigrated)
        migrate(unmigrated)
        assert asyncio.run(_tables(unmigrated)) == {"alembic_version", *metadata.tables}
        downgrade(unmigrated, "base")
        assert asyncio.run(_tables(unmigrated)) == {"alembic_version"}


def test_two_processes_may_migrate_at_once(unmigrated: Settings) -> None:
    url = unmigrated.database_url
    environment = os.environ | {"CALLMISSED_DATA_DIR": str(unmigrated.data_dir)}
    if url is not None:
        environment["CALLMISSED_DATABASE_URL"] = url.get_secret_value()
    program = (
        "from api.db.migrate import migrate; from api.settings import load_settings; migrate(load_settings())"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert set(metadata.tables) < asyncio.run(_tables(unmigrated))


def test_every_table_is_a_tenants_or_on_the_list() -> None:
    for name, table in metadata.tables.items():
        assert ("tenant_id" in table.primary_key.columns) != (name in GLOBAL), name


async def test_postgresql_confines_every_table(postgresql_settings: Settings) -> None:
    engine = migration_engine(postgresql_settings)
    async with engine.connect() as connection:
        secured = await connection.execute(
            text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
        )
        assert {name for (name,) in secured} == set(metadata.tables)
        policies = await connection.execute(
            text(
                "SELECT tablename FROM pg_policies "
                "WHERE 'callmissed_app' = ANY(roles) AND with_check <> 'true'"
            )
        )
        assert {name for (name,) in policies} == {*metadata.tables} - GLOBAL | {"tenants"}
        roles = await connection.execute(
            text(
                "SELECT rolname, rolsuper OR rolbypassrls OR rolcanlogin, "
                "EXISTS (SELECT FROM pg_class WHERE relowner = r.oid) "
                "FROM pg_roles r WHERE rolname ~ '^callmissed_'"
            )
        )
        assert sorted(roles) == [("callmissed_app", False, False), ("callmissed_system", False, False)]
        definers = await connection.execute(
            text("SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace")
        )
        assert list(definers) == []
    await engine.dispose()
