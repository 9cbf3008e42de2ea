"""The request log: one line for every usage row, newest first, filtered."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlmodel import col

from api.db.engine import Database
from api.db.session import TenantSession, tenant_session
from api.tables import UsageRow
from api.types import Caller, Milliseconds
from api.usage.outcomes import SUCCESS, error_message
from api.usage.period import Period
from api.usage.visibility import visible

_PREFIXES = {"messages": "msg", "responses": "resp"}

Cursor = tuple[Milliseconds, UUID]
"""The moment and id of a line; the next page begins after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which lines; None means any."""

    period: Period
    service: str | None = None
    model: str | None = None
    api_key_id: UUID | None = None
    status: Literal["ok", "error"] | None = None
    session_id: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One request. `charge` is in micro-credits, `input_tokens` includes cached ones."""

    id: UUID
    generation_id: str
    """The id its answer had, `gen_…`, `msg_…` or `resp_…`."""
    created_at: Milliseconds
    service: str
    endpoint: str
    model: str
    provider: str
    status_code: int
    outcome: str
    error_code: str
    error_message: str | None
    """Why there is no whole answer, in our words; None when there is one."""
    finish_reason: str
    streamed: bool
    live: bool
    latency_ms: int
    first_byte_ms: int
    input_tokens: int
    output_tokens: int
    charge: int
    api_key_id: UUID | None
    user_id: UUID | None
    session_id: str
    trace_id: str


async def logs(
    database: Database, caller: Caller, filters: Filters, *, limit: int, offset: int = 0
) -> list[LogRow]:
    """At most `limit` lines that `caller` may see, newest first, after passing over `offset`."""
    async with tenant_session(database, caller.tenant_id) as session:
        return await newest(session, caller, filters, limit=limit, offset=offset)


async def newest(
    session: TenantSession,
    caller: Caller,
    filters: Filters,
    *,
    limit: int,
    offset: int = 0,
    after: Cursor | None = None,
) -> list[LogRow]:
    """`logs` within a session; with `after` only the lines that come after it, whatever was added since."""
    created_at, row_id = col(UsageRow.created_at), col(UsageRow.id)
    conditions = _conditions(caller, filters, end=after[0] + 1 if after else filters.period.end)
    if after:
        conditions.append(or_(created_at < after[0], row_id < after[1]))
    statement = (
        select(UsageRow)
        .where(*conditions)
        .order_by(created_at.desc(), row_id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [log_row(row) for row in await session.scalars(statement)]


def log_row(row: UsageRow) -> LogRow:
    """The line of a usage row."""
    return LogRow(
        id=row.id,
        generation_id=generation_id(row.id, row.endpoint),
        created_at=row.created_at,
        service=row.service,
        endpoint=row.endpoint,
        model=row.model,
        provider=row.provider,
        status_code=row.status_code,
        outcome=row.outcome,
        error_code=row.error_code,
        error_message=error_message(row.outcome, row.error_code),
        finish_reason=row.finish_reason,
        streamed=row.streamed,
        live=row.live,
        latency_ms=row.latency_ms,
        first_byte_ms=row.first_byte_ms,
        input_tokens=row.input_tokens + row.cached_tokens + row.cache_write_tokens,
        output_tokens=row.output_tokens,
        charge=row.charge,
        api_key_id=row.api_key_id,
        user_id=row.user_id,
        session_id=row.session_id,
        trace_id=row.trace_id,
    )


def generation_id(row_id: UUID, endpoint: str) -> str:
    """The id an answer of `endpoint` carries for its usage row."""
    prefix = _PREFIXES.get(endpoint.rstrip("/").rpartition("/")[2], "gen")
    return f"{prefix}_{row_id.hex}"


def _conditions(caller: Caller, filters: Filters, *, end: Milliseconds) -> list[ColumnElement[bool]]:
    created_at = col(UsageRow.created_at)
    conditions = [created_at >= filters.period.start, created_at < end, visible(caller)]
    equal: tuple[tuple[Any, Any], ...] = (
        (col(UsageRow.service), filters.service),
        (col(UsageRow.model), filters.model),
        (col(UsageRow.api_key_id), filters.api_key_id),
        (col(UsageRow.session_id), filters.session_id),
        (col(UsageRow.trace_id), filters.trace_id),
    )
    conditions += [column == value for column, value in equal if value is not None]
    if filters.status:
        succeeded = col(UsageRow.outcome).in_(SUCCESS)
        conditions.append(succeeded if filters.status == "ok" else ~succeeded)
    return conditions
