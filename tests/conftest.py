"""What every test may ask for: settings, real servers, a migrated database of each kind, tenants."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from api.db.engine import Database, open_database, sqlite_path
from api.db.migrate import migrate
from api.db.writer import Writer, open_writer
from api.ledger import verify
from api.settings import Settings, load_settings
from api.tables import metadata
from tests import servers
from tests.factories import give, make_prices, make_tenant

MakeTenant = Callable[..., Awaitable[UUID]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: `CALLMISSED_TEST_DATABASE_URL`, or our own for this session."""
    given = os.environ.get("CALLMISSED_TEST_DATABASE_URL")
    if given:
        yield given
    else:
        with servers.postgresql() as url:
            yield url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey or Redis server: `CALLMISSED_TEST_REDIS_URL`, or our own for this session."""
    given = os.environ.get("CALLMISSED_TEST_REDIS_URL")
    if given:
        yield given
    else:
        with servers.valkey() as url:
            yield url


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a migrated database that the tests of this process use one after the other."""
    name = f"callmissed_test_{os.getpid()}"
    with servers.new_database(postgres_url, name) as url:
        migrate(load_settings(data_dir=tmp_path_factory.mktemp("data"), database_url=url))
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file that tests copy."""
    settings = load_settings(data_dir=tmp_path_factory.mktemp("sqlite"), database_url=None)
    migrate(settings)
    return sqlite_path(settings)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a fresh installation: nothing from the environment, an empty data folder."""
    return load_settings(
        data_dir=tmp_path / "data", database_url=None, redis_url=None, secret_key=None, vendors={}
    )


@pytest.fixture
def sqlite_settings(settings: Settings, sqlite_template: Path) -> Settings:
    """Settings of a migrated SQLite database of the test's own."""
    shutil.copyfile(sqlite_template, sqlite_path(settings))
    return settings


@pytest.fixture
def postgresql_settings(settings: Settings, migrated_postgresql: str) -> Settings:
    """Settings of a migrated and empty PostgreSQL database that is the test's alone while it runs."""
    asyncio.run(servers.empty(migrated_postgresql, metadata.tables))
    return settings.model_copy(update={"database_url": SecretStr(migrated_postgresql)})


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of a migrated and empty database for the test alone, of each kind in turn."""
    chosen: Settings = request.getfixturevalue(f"{request.param}_settings")
    return chosen


@pytest.fixture
async def database(database_settings: Settings) -> AsyncIterator[Database]:
    """A migrated database for the test alone, of each kind in turn. Its books must be sound in the end."""
    opened = open_database(database_settings)
    await make_prices(opened)
    yield opened
    report = await verify(opened)
    await opened.close()
    assert report.drift == []


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    """The group-commit writer of the test's database."""
    opened = await open_writer(database)
    yield opened
    await opened.close()


@pytest.fixture
def tenant(database: Database) -> MakeTenant:
    """Makes organizations: `await tenant(credits=100)` is the id of one with 100 micro-credits, paid for."""

    async def make(*, credits: int = 0, **values: str) -> UUID:
        tenant_id = await make_tenant(database, **values)
        if credits:
            await give(database, tenant_id, credits)
        return tenant_id

    return make
