"""When a key or session was last used: written off the request's path, at most once a minute per row."""

import asyncio
import logging
from uuid import UUID

from sqlalchemy import or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from api.db.engine import Database
from api.db.session import tenant_session
from api.errors import ApiError
from api.tables import ApiKey, Session
from api.types import Milliseconds

log = logging.getLogger(__name__)

MINUTE: Milliseconds = 60_000

_writing: dict[UUID, asyncio.Task[None]] = {}


def note_use(
    database: Database,
    table: type[ApiKey] | type[Session],
    *,
    tenant_id: UUID,
    row_id: UUID,
    moment: Milliseconds,
) -> None:
    """Write `moment` in the background, unless that is under way or was done less than a minute before."""
    if row_id in _writing:
        return
    task = asyncio.create_task(_write(database, table, tenant_id, row_id, moment))
    _writing[row_id] = task
    task.add_done_callback(lambda _: _writing.pop(row_id, None))


async def notes_written() -> None:
    """Wait for the writes that are under way; to be called before the database is closed."""
    await asyncio.gather(*_writing.values(), return_exceptions=True)


async def _write(
    database: Database,
    table: type[ApiKey] | type[Session],
    tenant_id: UUID,
    row_id: UUID,
    moment: Milliseconds,
) -> None:
    try:
        async with tenant_session(database, tenant_id, writes=True) as session:
            await session.execute(
                update(table)
                .where(
                    col(table.id) == row_id,
                    or_(col(table.last_used_at).is_(None), col(table.last_used_at) <= moment - MINUTE),
                )
                .values(last_used_at=moment)
            )
    except (SQLAlchemyError, OSError, ApiError) as error:
        log.warning("last use was not written", extra={"fault": type(error).__name__})
