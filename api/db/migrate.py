"""Migrations: the database is as the newest revision says afterwards."""

import asyncio
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from api.db.engine import connect_postgresql, driver_address, open_database
from api.settings import Settings

_SCRIPTS = Path(__file__).resolve().parents[2] / "alembic"


def migrate(settings: Settings, revision: str = "head") -> None:
    """Bring the database to `revision`, up from wherever it is; a second run changes nothing.

    Runs a loop of its own: inside a running one, call it as `await asyncio.to_thread(migrate, settings)`.
    On PostgreSQL the user must own the tables and may have to create two roles (CREATEROLE).
    """
    asyncio.run(_run(settings, partial(_upgrade, revision=revision)))


def downgrade(settings: Settings, revision: str) -> None:
    """Bring the database down to `revision` (`base`: empty). Data of what is removed is lost."""
    asyncio.run(_run(settings, partial(_downgrade, revision=revision)))


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, on `connection` when there is one already."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def _run(settings: Settings, work: "partial[None]") -> None:
    engine = migration_engine(settings)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(work)
            await connection.commit()
    finally:
        await engine.dispose()


def migration_engine(settings: Settings) -> AsyncEngine:
    """An engine that acts as the tables' owner and, on SQLite, begins with the write lock taken."""
    if settings.database_url is None:
        return open_database(settings).bind(writes=True)
    address = driver_address(settings.database_url.get_secret_value())
    return create_async_engine(
        "postgresql+asyncpg://", async_creator=partial(connect_postgresql, address, None), poolclass=NullPool
    )


def _upgrade(connection: Connection, *, revision: str) -> None:
    command.upgrade(configuration(connection), revision)


def _downgrade(connection: Connection, *, revision: str) -> None:
    command.downgrade(configuration(connection), revision)
