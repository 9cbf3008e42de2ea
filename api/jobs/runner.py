"""All periodic work of a server process."""

import asyncio
import os
import socket
from collections.abc import Coroutine

from api.db.engine import Database
from api.db.writer import Writer
from api.jobs.holds import hold_sweeper
from api.jobs.leases import Job, give_back, repeat
from api.types import Clock, new_id, now


def run_jobs(database: Database, writer: Writer, *, clock: Clock = now) -> Coroutine[None, None, None]:
    """Run every job at its pace until cancelled; the leases held are given back then.

    Call it before the first request is served: what was held before the call is taken for a dead process's
    on SQLite.
    """
    return _run(database, [hold_sweeper(database, writer, clock, clock())], clock)


async def _run(database: Database, jobs: list[Job], clock: Clock) -> None:
    holder = f"{socket.gethostname()[:24]}-{os.getpid()}-{new_id().hex[-12:]}"
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(repeat(database, job, holder, clock), name=f"job {job.name}")
    finally:
        await asyncio.shield(give_back(database, holder))
