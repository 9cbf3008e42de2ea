"""Rows that tests stand on. Every maker writes through the product's own doors and returns what it made."""

from uuid import UUID

from api.db.engine import Database
from api.db.system import system_session
from api.tables import Tenant, Wallet
from api.types import new_id, now


async def make_tenant(database: Database, *, name: str = "Acme", plan: str = "self_hosted") -> UUID:
    """A new organization with an empty wallet."""
    tenant_id = new_id()
    async with system_session(database, "registration", writes=True) as session:
        session.add(Tenant(id=tenant_id, name=name, slug=f"t-{tenant_id.hex}", plan=plan, created_at=now()))
        await session.flush()
        session.add(Wallet(tenant_id=tenant_id))
    return tenant_id
