"""Runs migrations on the connection it is given, or on the database the settings name. Online only."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from api.db.migrate import migration_engine
from api.settings import load_settings
from api.tables import metadata


def run(connection: Connection) -> None:
    """All pending revisions in one transaction: all of them, or none."""
    if connection.dialect.name == "postgresql":
        # Two processes that start at once: the second waits and finds nothing left to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(20561122)")
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run() -> None:
    engine = migration_engine(load_settings())
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    raise SystemExit("migrations need a database: --sql is not supported")
if given is not None:
    run(given)
else:
    asyncio.run(connect_and_run())
