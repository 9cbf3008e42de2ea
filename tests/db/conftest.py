"""Databases of one kind, for what only one kind does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from api.db.engine import Database, open_database
from api.ledger import verify
from api.settings import Settings
from tests.factories import give, make_prices, make_tenant


@pytest.fixture
async def sqlite_database(sqlite_settings: Settings) -> AsyncIterator[Database]:
    """A migrated SQLite database for the test alone, whose books must be sound in the end."""
    async for database in _opened(sqlite_settings):
        yield database


@pytest.fixture
async def postgresql_database(postgresql_settings: Settings) -> AsyncIterator[Database]:
    """A migrated PostgreSQL database for the test alone, whose books must be sound in the end."""
    async for database in _opened(postgresql_settings):
        yield database


@pytest.fixture
def tenant_of() -> Callable[[Database, int], Awaitable[UUID]]:
    """Makes a tenant with credits in a database."""

    async def make(database: Database, credits: int) -> UUID:
        tenant_id = await make_tenant(database)
        await give(database, tenant_id, credits)
        return tenant_id

    return make


async def _opened(settings: Settings) -> AsyncIterator[Database]:
    database = open_database(settings)
    await make_prices(database)
    yield database
    report = await verify(database)
    await database.close()
    assert report.drift == []
