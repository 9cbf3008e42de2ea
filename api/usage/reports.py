"""Sums over usage rows: the summary of a period, and the figures of the overview page.

The database adds up. A report reads the period once per statement through an index and gets back one row per
day, per service and for the dearest models, on both databases the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, case, func, literal, select, union_all
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


async def summary(database: Database, caller: Caller, *, days: int, now: Milliseconds) -> Summary:
    """The last `days` IST days, today included, of what `caller` may see."""
    period = last_days(days, now)
    async with tenant_session(database, caller.tenant_id) as session:
        rows = (await session.execute(_summary_statement(caller, period))).all()
        latency = await _latency(session, caller, period)
    by_axis: dict[str, list[Row[Any]]] = {"total": [], "service": [], "model": [], "day": []}
    for row in rows:
        by_axis[row.axis].append(row)
    return Summary(
        period_days=days,
        totals=_figures(by_axis["total"][0]),
        latency=latency,
        by_service=_ranked(by_axis["service"]),
        by_model=_ranked(by_axis["model"]),
        series=_series({row.day: _figures(row) for row in by_axis["day"]}, days, now),
    )


async def overview(database: Database, caller: Caller, *, now: Milliseconds) -> Overview:
    """The figures of the overview page over what `caller` may see."""
    month = last_days(30, now)
    day = _day().label("day")
    daily = _rows(select(day, *_sums()), caller, month).group_by("day")
    async with tenant_session(database, caller.tenant_id) as session:
        figures = {row.day: _figures(row) for row in await session.execute(daily)}
        latency = await _latency(session, caller, last_days(7, now))
        recent = await newest(session, caller, Filters(period=month), limit=RECENT)
    series = _series(figures, 30, now)
    return Overview(
        today=series[-1][1],
        month=_total(figures for _, figures in series),
        success_rate=_total(figures for _, figures in series[-7:]).success_rate,
        latency=latency,
        series=series,
        recent=tuple(recent),
    )


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
        func.coalesce(func.sum(col(UsageRow.charge)), 0).label("charge"),
        func.coalesce(func.sum(prompt), 0).label("input_tokens"),
        func.coalesce(func.sum(col(UsageRow.output_tokens)), 0).label("output_tokens"),
    )


def _rows(statement: Select[*tuple[Any, ...]], caller: Caller, period: Period) -> Select[*tuple[Any, ...]]:
    created_at = col(UsageRow.created_at)
    return statement.select_from(UsageRow).where(
        created_at >= period.start, created_at < period.end, visible(caller)
    )


def _summary_statement(caller: Caller, period: Period) -> Any:
    # One pass over the period gives cells; the four views of it are sums of cells. A client may ask for any
    # number of models that do not exist, so the cells stay in the database.
    day = _day().label("day")
    cells = (
        _rows(select(day, col(UsageRow.service), col(UsageRow.model), *_sums()), caller, period)
        .group_by("day", "service", "model")
        .cte("cells")
    )
    names = ("requests", "success", "charge", "input_tokens", "output_tokens")
    sums = [func.coalesce(func.sum(cells.c[name]), 0).label(name) for name in names]

    def view(axis: str, name: Any, day: Any) -> Select[*tuple[Any, ...]]:
        return select(literal(axis).label("axis"), name.label("name"), day.label("day"), *sums)

    nothing, no_day = literal(""), literal(0)
    dearest = (
        view("model", cells.c.model, no_day)
        .group_by(cells.c.model)
        .order_by(func.sum(cells.c.charge).desc(), func.sum(cells.c.requests).desc(), cells.c.model)
        .limit(TOP_MODELS)
        .subquery("dearest")
    )
    return union_all(
        view("total", nothing, no_day),
        view("service", cells.c.service, no_day).group_by(cells.c.service),
        view("day", nothing, cells.c.day).group_by(cells.c.day),
        select(dearest),
    )


async def _latency(session: TenantSession, caller: Caller, period: Period) -> Latency:
    latency = col(UsageRow.latency_ms)
    spread = (
        _rows(select(latency, func.count().label("rows")), caller, period)
        .where(_succeeded())
        .group_by(latency)
        .cte("spread")
    )
    running = select(
        spread.c.latency_ms,
        (spread.c.latency_ms * spread.c.rows).label("weight"),
        func.sum(spread.c.rows).over(order_by=spread.c.latency_ms).label("upto"),
        func.sum(spread.c.rows).over().label("total"),
    ).cte("running")

    def percentile(percent: int) -> Any:
        return func.min(case((running.c.upto * 100 >= running.c.total * percent, running.c.latency_ms)))

    statement = select(func.sum(running.c.weight), func.max(running.c.total), percentile(50), percentile(95))
    weight, total, p50, p95 = (await session.execute(statement)).one()
    return Latency(average=round(int(weight) / int(total)) if total else None, p50=p50, p95=p95)


def _figures(row: Row[Any]) -> Figures:
    return Figures(
        requests=int(row.requests),
        success=int(row.success),
        charge=int(row.charge),
        input_tokens=int(row.input_tokens),
        output_tokens=int(row.output_tokens),
    )


def _ranked(rows: list[Row[Any]]) -> tuple[tuple[str, Figures], ...]:
    named = [(str(row.name), _figures(row)) for row in rows]
    return tuple(sorted(named, key=lambda item: (-item[1].charge, -item[1].requests, item[0])))


def _series(by_day: dict[int, Figures], days: int, now: Milliseconds) -> tuple[tuple[str, Figures], ...]:
    today, nothing = day_of(now), Figures()
    return tuple(
        (date_of(day).isoformat(), by_day.get(day, nothing)) for day in range(today - days + 1, today + 1)
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
