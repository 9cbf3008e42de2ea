"""Holds whose process is gone are given back: nothing is held for ever."""

import asyncio

from sqlalchemy import or_, select
from sqlmodel import col

from api.db.engine import Database
from api.db.system import system_session
from api.db.writer import Writer
from api.ledger.requests import expire
from api.tables import OpenHold
from api.types import Milliseconds

_AT_ONCE = 500


async def sweep(
    database: Database, writer: Writer, *, now: Milliseconds, abandoned_before: Milliseconds = 0
) -> int:
    """Resolve every hold that expired by `now` or was made before `abandoned_before`; how many.

    Nothing is charged, and the request's usage row says `interrupted`. A request that is resolved meanwhile
    by its own process stays as that left it.
    """
    swept = 0
    while True:
        async with system_session(database, "sweep") as session:
            due = or_(col(OpenHold.expires_at) <= now, col(OpenHold.created_at) < abandoned_before)
            holds = list(await session.scalars(select(OpenHold).where(due).limit(_AT_ONCE)))
        resolved = sum(await asyncio.gather(*(_expire(writer, hold) for hold in holds)))
        swept += resolved
        if len(holds) < _AT_ONCE or not resolved:
            return swept


async def _expire(writer: Writer, hold: OpenHold) -> bool:
    return await expire(
        writer,
        tenant_id=hold.tenant_id,
        request_id=hold.id,
        usage={
            "created_at": hold.created_at,
            "status_code": 500,
            "error_code": "interrupted",
            "usage_source": "none",
            **hold.context,
            "outcome": "interrupted",
        },
    )
