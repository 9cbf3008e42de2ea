"""The request log as CSV: RFC 4180, made while it is sent, and harmless in a spreadsheet."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from api.db.engine import Database
from api.db.session import tenant_session
from api.money import credits_text
from api.types import Caller, Milliseconds
from api.usage.logs import Cursor, Filters, LogRow, newest

MAX_ROWS = 5_000

METHOD = "POST"
"""Every call that makes a usage row is one."""

_BATCH = 200
"""Rows made into text at a time: some ten milliseconds in which nobody else is served."""

COLUMNS = (
    "id",
    "created_at",
    "service",
    "endpoint",
    "method",
    "model",
    "status_code",
    "latency_ms",
    "input_tokens",
    "output_tokens",
    "audio_seconds",
    "cost_usd",
    "credits",
    "request_id",
    "api_key_id",
    "error_message",
    "trace_id",
    "session_id",
)

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")


async def csv_blocks(database: Database, caller: Caller, filters: Filters) -> AsyncIterator[bytes]:
    """The heading and at most `MAX_ROWS` newest lines as UTF-8 CSV, block by block.

    No session is open while a block is on its way to the client.
    """
    left, after, heading = MAX_ROWS, None, True
    while left > 0:
        size = min(_BATCH, left)
        rows = await _batch(database, caller, filters, size, after)
        if rows or heading:
            yield _block(rows, heading=heading)
        if len(rows) < size:
            return
        left, after, heading = left - size, (rows[-1].created_at, rows[-1].id), False


def moment_text(moment: Milliseconds) -> str:
    """ISO 8601 in UTC with milliseconds: `2026-11-22T10:15:30.123Z`."""
    whole, part = divmod(moment, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{part:03d}Z"


def usd_text(amount: int) -> str:
    """`amount` micro-credits as exact dollars at 0.01 a credit: `"0.00001215"`."""
    # A micro-credit is a hundred-millionth of a dollar, so nothing is rounded.
    whole, fraction = divmod(amount, 100_000_000)
    return f"{whole}.{fraction:08d}".rstrip("0").rstrip(".")


def safe_cell(text: str) -> str:
    """`text` so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


async def _batch(
    database: Database, caller: Caller, filters: Filters, size: int, after: Cursor | None
) -> list[LogRow]:
    async with tenant_session(database, caller.tenant_id) as session:
        return await newest(session, caller, filters, limit=size, after=after)


def _block(rows: list[LogRow], *, heading: bool) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    if heading:
        writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue().encode()


def _cells(row: LogRow) -> tuple[str | int, ...]:
    return (
        str(row.id),
        moment_text(row.created_at),
        safe_cell(row.service),
        safe_cell(row.endpoint),
        METHOD,
        safe_cell(row.model),
        row.status_code,
        row.latency_ms,
        row.input_tokens,
        row.output_tokens,
        0,
        usd_text(row.charge),
        credits_text(row.charge),
        row.generation_id,
        str(row.api_key_id) if row.api_key_id else "",
        safe_cell((row.error_message or "")[:500]),
        safe_cell(row.trace_id),
        safe_cell(row.session_id),
    )
