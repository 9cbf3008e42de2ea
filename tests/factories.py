"""Rows that tests stand on. Every maker writes through the product's own doors and returns what it made."""

from uuid import UUID

from api.db.engine import Database
from api.db.session import insert_once
from api.db.system import system_session
from api.ledger.wallet import Part, credit
from api.tables import PriceVersion, Tenant, Wallet
from api.types import new_id, now


async def make_tenant(
    database: Database, *, name: str = "Acme", plan: str = "self_hosted", wallet: bool = True
) -> UUID:
    """A new organization with an empty wallet, or with none."""
    tenant_id = new_id()
    async with system_session(database, "registration", writes=True) as session:
        session.add(Tenant(id=tenant_id, name=name, slug=f"t-{tenant_id.hex}", plan=plan, created_at=now()))
        await session.flush()
        if wallet:
            session.add(Wallet(tenant_id=tenant_id))
    return tenant_id


async def give(database: Database, tenant_id: UUID, amount: int, part: Part = "paid") -> None:
    """Put `amount` micro-credits into a part of the wallet."""
    async with system_session(database, "operator", writes=True) as session:
        await credit(
            session,
            tenant_id=tenant_id,
            amount=amount,
            part=part,
            kind="grant",
            source="promotions",
            reference=new_id().hex,
        )


PRICES = "test@1"
"""A price version of one micro-credit a token: what an answer costs is the number of its input tokens."""


async def make_prices(database: Database) -> None:
    """The price version `PRICES`."""
    async with system_session(database, "catalog", writes=True) as session:
        prices = dict.fromkeys(("input", "cached", "cache_write", "output"), 1000000)
        await insert_once(session, PriceVersion, id=PRICES, model="test", prices=prices)


def usage(cost: int = 0, **columns: object) -> dict[str, object]:
    """A usage row whose tokens cost `cost` micro-credits at `PRICES`."""
    return {
        "service": "llm",
        "endpoint": "/v1/chat/completions",
        "model": "test",
        "provider": "scripted",
        "outcome": "ok",
        "status_code": 200,
        "price_version": PRICES,
        "input_tokens": cost,
        **columns,
    }
