"""Sums over usage rows: the summary of a period, and the figures of the overview page.

The database adds up, through an index and the same on both databases: to one cell for each day, service and
model (a model that does not exist makes no row, so there are few), and to the count of each latency.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from sqlalchemy import Select, func, literal, select
from sqlmodel import col

from api.db.engine import Database
from api.db.session import TenantSession, tenant_session
from api.tables import UsageRow
from api.types import DAY, IST_OFFSET, Caller, Milliseconds
from api.usage.logs import Filters, LogRow, newest
from api.usage.outcomes import SUCCESS
from api.usage.period import Period, date_of, day_of, last_days
from api.usage.visibility import visible

TOP_MODELS = 10
RECENT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sums over some rows. `charge` is in micro-credits; input tokens include cached ones."""

    requests: int = 0
    success: int = 0
    charge: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def errors(self) -> int:
        """Requests that did not succeed."""
        return self.requests - self.success

    @property
    def success_rate(self) -> float | None:
        """Share of requests that succeeded, 0 to 1; None without requests."""
        return self.success / self.requests if self.requests else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of the requests that succeeded; None when there is none. Percentiles are nearest-rank."""

    average: int | None
    p50: int | None
    p95: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A period in sums. `series` has one `(ISO date, figures)` per IST day, empty days included."""

    period_days: int
    totals: Figures
    latency: Latency
    by_service: tuple[tuple[str, Figures], ...]
    by_model: tuple[tuple[str, Figures], ...]
    """The `TOP_MODELS` dearest."""
    series: tuple[tuple[str, Figures], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the first page shows: today, 30 days by IST day, 7 days of quality, the newest requests."""

    today: Figures
    month: Figures
    """The last 30 IST days."""
    success_rate: float | None
    """Of the last 7 IST days, as is `latency`."""
    latency: Latency
    series: tuple[tuple[str, Figures], ...]
    """The last 30 IST days, the oldest first."""
    recent: tuple[LogRow, ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    service: str
    model: str
    day: int
    figures: Figures


async def summary(database: Database, caller: Caller, *, days: int, now: Milliseconds) -> Summary:
    """The last `days` IST days, today included, of what `caller` may see."""
    period = last_days(days, now)
    async with tenant_session(database, caller.tenant_id) as session:
        cells = await _cells(session, caller, period)
        latency = await _latency(session, caller, period)
    return Summary(
        period_days=days,
        totals=_total(cell.figures for cell in cells),
        latency=latency,
        by_service=_dearest(cells, lambda cell: cell.service),
        by_model=_dearest(cells, lambda cell: cell.model)[:TOP_MODELS],
        series=_series(cells, days, now),
    )


async def overview(database: Database, caller: Caller, *, now: Milliseconds) -> Overview:
    """The figures of the overview page over what `caller` may see."""
    month = last_days(30, now)
    async with tenant_session(database, caller.tenant_id) as session:
        cells = await _cells(session, caller, month)
        latency = await _latency(session, caller, last_days(7, now))
        recent = await newest(session, caller, Filters(period=month), limit=RECENT)
    series = _series(cells, 30, now)
    return Overview(
        today=series[-1][1],
        month=_total(figures for _, figures in series),
        success_rate=_total(figures for _, figures in series[-7:]).success_rate,
        latency=latency,
        series=series,
        recent=tuple(recent),
    )


async def _cells(session: TenantSession, caller: Caller, period: Period) -> list[_Cell]:
    service, model = col(UsageRow.service), col(UsageRow.model)
    statement = _rows(select(service, model, _day().label("day"), *_sums()), caller, period)
    # The day first: rows are read in that order already, which makes the database's sorting cheap.
    rows = await session.execute(statement.group_by("day", model, service))
    return [
        _Cell(
            row.service,
            row.model,
            row.day,
            # PostgreSQL's sums of integers are decimals.
            Figures(
                requests=int(row.requests),
                success=int(row.success),
                charge=int(row.charge),
                input_tokens=int(row.input_tokens),
                output_tokens=int(row.output_tokens),
            ),
        )
        for row in rows
    ]


def _day() -> Any:
    # Rendered as numbers: PostgreSQL takes an expression for the same in SELECT and GROUP BY only then.
    offset, day = literal(IST_OFFSET, literal_execute=True), literal(DAY, literal_execute=True)
    return (col(UsageRow.created_at) + offset) // day


def _succeeded() -> Any:
    return col(UsageRow.outcome).in_(SUCCESS)


def _sums() -> tuple[Any, ...]:
    prompt = col(UsageRow.input_tokens) + col(UsageRow.cached_tokens) + col(UsageRow.cache_write_tokens)
    return (
        func.count().label("requests"),
        func.count().filter(_succeeded()).label("success"),
        func.sum(col(UsageRow.charge)).label("charge"),
        func.sum(prompt).label("input_tokens"),
        func.sum(col(UsageRow.output_tokens)).label("output_tokens"),
    )


def _rows(statement: Select[*tuple[Any, ...]], caller: Caller, period: Period) -> Select[*tuple[Any, ...]]:
    created_at = col(UsageRow.created_at)
    return statement.select_from(UsageRow).where(
        created_at >= period.start, created_at < period.end, visible(caller)
    )


async def _latency(session: TenantSession, caller: Caller, period: Period) -> Latency:
    latency = col(UsageRow.latency_ms)
    statement = _rows(select(latency, func.count()), caller, period).where(_succeeded())
    counts = [(value, count) for value, count in await session.execute(statement.group_by(latency))]
    counts.sort()
    total = sum(count for _, count in counts)
    if not total:
        return Latency(average=None, p50=None, p95=None)
    return Latency(
        average=round(sum(value * count for value, count in counts) / total),
        p50=_percentile(counts, total, 50),
        p95=_percentile(counts, total, 95),
    )


def _percentile(counts: list[tuple[int, int]], total: int, percent: int) -> int:
    upto = accumulate(count for _, count in counts)
    return next(
        value for (value, _), so_far in zip(counts, upto, strict=True) if so_far * 100 >= total * percent
    )


def _dearest(cells: list[_Cell], name: Callable[[_Cell], str]) -> tuple[tuple[str, Figures], ...]:
    """The sum of each name's cells: the dearest first, then the most used."""
    of_name: dict[str, list[Figures]] = {}
    for cell in cells:
        of_name.setdefault(name(cell), []).append(cell.figures)
    sums = [(each, _total(figures)) for each, figures in of_name.items()]
    return tuple(sorted(sums, key=lambda item: (-item[1].charge, -item[1].requests, item[0])))


def _series(cells: list[_Cell], days: int, now: Milliseconds) -> tuple[tuple[str, Figures], ...]:
    of_day: dict[int, list[Figures]] = {}
    for cell in cells:
        of_day.setdefault(cell.day, []).append(cell.figures)
    today = day_of(now)
    return tuple(
        (date_of(day).isoformat(), _total(of_day.get(day, ()))) for day in range(today - days + 1, today + 1)
    )


def _total(figures: Iterable[Figures]) -> Figures:
    each = tuple(figures)
    return Figures(
        requests=sum(one.requests for one in each),
        success=sum(one.success for one in each),
        charge=sum(one.charge for one in each),
        input_tokens=sum(one.input_tokens for one in each),
        output_tokens=sum(one.output_tokens for one in each),
    )
