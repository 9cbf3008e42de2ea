"""Frees what requests of dead processes hold."""

import logging
from functools import partial

from api import ledger
from api.db.engine import Database
from api.db.writer import Writer
from api.jobs.leases import Job
from api.types import Clock, Milliseconds

log = logging.getLogger("api.jobs")


def hold_sweeper(database: Database, writer: Writer, clock: Clock, started: Milliseconds) -> Job:
    """The job that resolves holds past their time, every 30 seconds.

    On SQLite one process at a time has the lease, so that what was held before this one `started` is a dead
    one's: it is resolved once the dead process's lease has run out, without waiting for the hold's time.
    """
    abandoned_before = started if database.is_sqlite else 0
    return Job("sweep-holds", 30.0, partial(_sweep, database, writer, clock, abandoned_before))


async def _sweep(database: Database, writer: Writer, clock: Clock, abandoned_before: Milliseconds) -> None:
    swept = await ledger.sweep(database, writer, now=clock(), abandoned_before=abandoned_before)
    if swept:
        log.warning("holds of a dead process freed", extra={"holds": swept})
