"""Usage rows that tests stand on."""

from datetime import datetime
from typing import Any
from uuid import UUID

from api.db.engine import Database
from api.db.session import tenant_session
from api.tables import UsageRow
from api.types import Caller, Milliseconds, new_id


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
    """Store the rows for the tenant; their ids."""
    async with tenant_session(database, tenant_id, writes=True) as session:
        session.add_all(rows)
        await session.flush()
        return [row.id for row in rows]
