"""Leases in our own database: with any number of processes, a periodic job runs in one of them.

A lease lasts longer than the job may take and is renewed by the next run; when its holder dies, another
process takes over as soon as it has run out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import delete, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from api.db.engine import Database
from api.db.system import system_session
from api.tables import JobLease
from api.types import Clock, Milliseconds

log = logging.getLogger("api.jobs")

_RUNS_MISSED = 3
"""A run may take, and a lease lasts, so many times the pace of its job."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done how often. What `run` raises is logged, and it is tried again."""

    name: str
    every: float
    """Seconds between runs."""
    run: Callable[[], Awaitable[object]]


async def repeat(database: Database, job: Job, holder: str, clock: Clock) -> None:
    """Run `job` at its pace, whenever `holder` has its lease, until cancelled."""
    while True:
        try:
            at = clock()
            until = at + int(job.every * 1000 * _RUNS_MISSED)
            if await take_lease(database, job.name, holder, at=at, until=until):
                async with asyncio.timeout(job.every * _RUNS_MISSED):
                    await job.run()
        except Exception:
            log.exception("job failed", extra={"job": job.name})
        await asyncio.sleep(job.every)


async def take_lease(
    database: Database, name: str, holder: str, *, at: Milliseconds, until: Milliseconds
) -> bool:
    """Take or renew the lease `name`; False while it is somebody else's and has not run out by `at`."""
    async with system_session(database, "jobs", writes=True) as session:
        build = sqlite.insert if database.is_sqlite else postgresql.insert
        result = await session.execute(
            build(JobLease)
            .values(name=name, holder=holder, until=until)
            .on_conflict_do_update(
                index_elements=["name"],
                set_={"holder": holder, "until": until},
                where=or_(col(JobLease.until) <= at, col(JobLease.holder) == holder),
            )
        )
        return bool(result.rowcount)  # type: ignore[attr-defined]


async def give_back(database: Database, holder: str) -> None:
    """End every lease of `holder`; if that fails they run out by themselves."""
    try:
        async with system_session(database, "jobs", writes=True) as session:
            await session.execute(delete(JobLease).where(col(JobLease.holder) == holder))
    except Exception:
        log.warning("leases not given back", exc_info=True)
