"""Asks a database what state it is in, without changing it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from api.cli.sentences import Refusal
from api.settings import Settings


def place(settings: Settings) -> str:
    """Where the database is, without its password."""
    if settings.database_url is None:
        return str(_file(settings))
    parts = urlsplit(settings.database_url.get_secret_value())
    return f"postgresql://{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


def revision(settings: Settings) -> str | None:
    """The revision the database is at; None when it is empty. Raises `Refusal` when it cannot be asked."""
    from asyncpg import InterfaceError, PostgresError

    try:
        if settings.database_url is None:
            return _sqlite_revision(_file(settings))
        return asyncio.run(_postgresql_revision(settings.database_url.get_secret_value()))
    except ValueError as error:
        raise Refusal(str(error)) from error
    except TimeoutError as error:
        raise Refusal(f"The database {place(settings)} does not answer.") from error
    except (OSError, sqlite3.Error, PostgresError, InterfaceError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        first = reason.splitlines()[0].rstrip(".")
        raise Refusal(f"The database {place(settings)} cannot be used: {first}.") from error


def newest_revision() -> str:
    """The revision this program needs."""
    from alembic.script import ScriptDirectory

    from api.db.migrate import configuration

    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def require_migrated(settings: Settings) -> None:
    """Raise `Refusal` unless the database is at the newest revision."""
    found = revision(settings)
    if found != newest_revision():
        state = "empty" if found is None else f"at revision {found}, not {newest_revision()}"
        raise Refusal(f"The database is {state}: run `python -m api migrate` first.")


def _file(settings: Settings) -> Path:
    return settings.data_dir.resolve() / "callmissed.db"


def _sqlite_revision(file: Path) -> str | None:
    if not file.is_file():
        return None
    # Not read-only: the last reader of a write-ahead log has to be able to tidy it up.
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=10)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    return str(row[0]) if row else None


async def _postgresql_revision(url: str) -> str | None:
    from asyncpg import UndefinedTableError

    from api.db.engine import connect_postgresql, driver_address

    connection = await connect_postgresql(driver_address(url), None)
    try:
        found = await connection.fetchval("SELECT version_num FROM alembic_version")
    except UndefinedTableError:
        return None
    finally:
        await connection.close()
    return None if found is None else str(found)
