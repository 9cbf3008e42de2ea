"""Holds whose process is gone are given back: nothing is held for ever."""

import asyncio

from sqlalchemy import select

from api.db.engine import Database
from api.db.system import system_session
from api.db.writer import Writer
from api.ledger.requests import expire
from api.tables import OpenHold
from api.types import Milliseconds

_AT_ONCE = 500

WHENEVER: Milliseconds = 1 << 62
"""Later than every expiry: sweeps all open holds."""


async def sweep(database: Database, writer: Writer, *, now: Milliseconds) -> int:
    """Resolve every hold that expired by `now`; how many.

    Nothing is charged, and the request's usage row says `interrupted`. A request that is resolved meanwhile
    by its own process stays as that left it.
    """
    swept = 0
    while True:
        async with system_session(database, "sweep") as session:
            due = select(OpenHold).where(OpenHold.expires_at <= now).limit(_AT_ONCE)  # type: ignore[arg-type]
            holds = list(await session.scalars(due))
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
