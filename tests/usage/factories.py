"""Usage rows that tests stand on."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

from api import ledger
from api.catalog.prices import version_of
from api.db.engine import Database
from api.db.session import insert_once
from api.db.system import system_session
from api.db.writer import Writer, open_writer
from api.tables import PriceVersion, UsageRow
from api.types import Caller, Milliseconds, new_id, now
from tests.factories import give


def ist(text: str) -> Milliseconds:
    """The moment of an Indian wall clock: `ist("2026-11-22T23:59:59.999")`."""
    return round(datetime.fromisoformat(f"{text}+05:30").timestamp() * 1000)


NOW = ist("2026-11-22T15:30:00")


def owner(tenant_id: UUID, **values: Any) -> Caller:
    return Caller(
        **{
            "tenant_id": tenant_id,
            "kind": "session",
            "plan": "free",
            "role": "owner",
            "user_id": new_id(),
            **values,
        }
    )


def agent(tenant_id: UUID, user_id: UUID) -> Caller:
    return owner(tenant_id, role="agent", user_id=user_id)


def key(tenant_id: UUID, key_id: UUID, *, scopes: tuple[str, ...] = (), **values: Any) -> Caller:
    return Caller(
        tenant_id=tenant_id, kind="key", plan="free", key_id=key_id, scopes=frozenset(scopes), **values
    )


def usage_row(**values: Any) -> UsageRow:
    """One ordinary chat request at `NOW`; `values` say what is different about it."""
    return UsageRow(
        **{
            "id": new_id(),
            "created_at": NOW,
            "service": "llm",
            "endpoint": "/v1/chat/completions",
            "model": "kimi-k2.5-fast",
            "provider": "clarifai",
            "outcome": "ok",
            "latency_ms": 100,
            "input_tokens": 10,
            "output_tokens": 20,
            "charge": 1_000,
            **values,
        }
    )


async def add(database: Database, tenant_id: UUID, *rows: UsageRow) -> list[UUID]:
    """Store the rows through the books: each charge is held, settled and what its prices make; their ids."""
    await give(database, tenant_id, sum(row.charge for row in rows) + 1)
    async with system_session(database, "catalog", writes=True) as session:
        for row in rows:
            prices = _prices(row)
            row.price_version = version_of(row.model, prices)
            await insert_once(session, PriceVersion, id=row.price_version, model=row.model, prices=prices)
    writer = await open_writer(database)
    try:
        await asyncio.gather(*(_hold(writer, tenant_id, row) for row in rows if row.charge))
        await asyncio.gather(*(_resolve(writer, tenant_id, row) for row in rows))
    finally:
        await writer.close()
    return [row.id for row in rows]


def columns(row: UsageRow) -> dict[str, Any]:
    """What the ledger is told of the row."""
    own = {"tenant_id", "id", "held", "charge", "provider_loss"}
    values = row.model_dump(exclude=own)
    return {name: value.hex if isinstance(value, UUID) else value for name, value in values.items()}


def _prices(row: UsageRow) -> dict[str, int]:
    units = {
        "input": row.input_tokens,
        "cached": row.cached_tokens,
        "cache_write": row.cache_write_tokens,
        "output": row.output_tokens,
    }
    prices = dict.fromkeys(units, 0)
    if row.charge:
        name, count = max(units.items(), key=lambda item: item[1])
        assert 0 < count < 1_000_000, "a charge needs tokens, few enough for an exact price"
        prices[name] = row.charge * 1_000_000 // count
    return prices


async def _hold(writer: Writer, tenant_id: UUID, row: UsageRow) -> None:
    assert await ledger.hold(
        writer,
        tenant_id=tenant_id,
        request_id=row.id,
        amount=row.charge,
        context=columns(row),
        expires_at=now() + 60_000,
    )


async def _resolve(writer: Writer, tenant_id: UUID, row: UsageRow) -> None:
    of = {"tenant_id": tenant_id, "request_id": row.id, "usage": columns(row)}
    if row.charge:
        assert await ledger.settle(writer, cost=row.charge, **of) == row.charge
    else:
        await ledger.record(writer, **of)
