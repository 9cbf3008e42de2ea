"""The engine: SQLite in the data folder, or PostgreSQL, with the durability the books rely on.

SQLite: WAL, `synchronous=FULL`, foreign keys on, and sessions that write take the write lock at their start
(a deferred transaction that reads and then writes is refused at once when somebody else wrote meanwhile).
PostgreSQL: READ COMMITTED; a pooled connection acts as the role `callmissed_app`, which sees no tenant's row
until its transaction says which tenant it works for.
"""

import asyncio
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from api.settings import Settings

APP_ROLE = "callmissed_app"
SYSTEM_ROLE = "callmissed_system"

BUSY_SECONDS = 30
CONNECT_SECONDS = 10
_WRITES = "callmissed_writes"


@dataclass(slots=True)
class Database:
    """One database and its pool. `url` is a file's path on SQLite, the driver's address on PostgreSQL."""

    engine: AsyncEngine
    is_sqlite: bool
    url: str = field(repr=False)
    write_turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """SQLite has one writer at a time and no queue: within a process, whoever writes takes turns here."""

    def bind(self, *, writes: bool) -> AsyncEngine:
        """The engine for a session that reads only, or for one that `writes`; both share the pool."""
        return self.engine.execution_options(**{_WRITES: True}) if writes else self.engine

    async def close(self) -> None:
        """Close every pooled connection; the database may be opened again afterwards."""
        await self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """The database the settings name. Connects at first use; makes the data folder when it is missing."""
    if settings.database_url is None:
        return _open_sqlite(sqlite_path(settings))
    return _open_postgresql(driver_address(settings.database_url.get_secret_value()))


def sqlite_path(settings: Settings) -> Path:
    """The file of the embedded database; its folder exists afterwards, readable by its owner only."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return settings.data_dir.resolve() / "callmissed.db"


def driver_address(url: str) -> str:
    """`url` as asyncpg reads it itself, so that `sslmode`, several hosts and sockets mean what libpq says.

    Raises ValueError when the scheme is not PostgreSQL's.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme.split("+")[0] in ("postgresql", "postgres"):
        return f"postgresql://{rest}"
    raise ValueError("CALLMISSED_DATABASE_URL must begin with postgresql://")


def connect_sqlite(path: str) -> sqlite3.Connection:
    """A plain connection for the writer's own thread, in autocommit, with the same pragmas as the pool's."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
    )
    _set_pragmas(connection)
    return connection


async def connect_postgresql(address: str, role: str | None) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection that acts as `role` (None: as who signed in) and whose commits are on disk when told."""
    connection = await asyncpg.connect(
        address,
        timeout=CONNECT_SECONDS,
        server_settings={"application_name": "callmissed", "synchronous_commit": "on", "jit": "off"},
    )
    if role is not None:
        await connection.execute(f"SET ROLE {role}")
    return connection


def _open_sqlite(path: Path) -> Database:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{quote(str(path))}",
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
        pool_size=8,
        max_overflow=24,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        _set_pragmas(connection)

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return Database(engine, is_sqlite=True, url=str(path))


def _set_pragmas(connection: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # without it REPLACE deletes rows behind the triggers' back
        "cache_size = -16000",
        "temp_store = MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _open_postgresql(address: str) -> Database:
    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await connect_postgresql(address, APP_ROLE)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="READ COMMITTED",
        # With the writer's own, 17 connections a process: a server with the usual 100 carries five.
        pool_size=8,
        max_overflow=8,
        pool_pre_ping=True,
    )
    return Database(engine, is_sqlite=False, url=address)
