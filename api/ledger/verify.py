"""The books against themselves: every cache recomputed from the movements, every charge from its prices.

Read in one snapshot, in the database: only rows that do not add up come here.
"""

from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from api.db.engine import Database
from api.db.system import system_session
from api.ledger.checks import checks

_SHOWN = 20
"""Rows named per check; the rest are counted."""

_COUNTED = ("wallets", "transfers", "open_holds", "budgets", "usage_rows")


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: a line for every row that does not add up, and how many rows were looked at."""

    drift: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)


async def verify(database: Database) -> Report:
    """Recompute everything. `drift` is empty when the books are sound; nothing is changed or repaired."""
    report = Report()
    async with system_session(database, "verify") as session:
        if not database.is_sqlite:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        for table in _COUNTED:
            count = await session.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608
            report.checked[table] = count or 0
        for claim, query in checks(is_sqlite=database.is_sqlite).items():
            report.drift.extend(await _broken(session, claim, query))
    return report


async def _broken(session: AsyncSession, claim: str, query: str) -> list[str]:
    rows = (await session.execute(text(query))).all()
    lines = [f"{claim}: {' '.join(str(value) for value in row)}" for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"{claim}: and {len(rows) - _SHOWN} more")
    return lines
