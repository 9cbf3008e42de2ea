"""What signed-in people see of themselves and their organization."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlmodel import col

from api.db.engine import Database
from api.db.session import tenant_session
from api.ledger import balance
from api.tables import Tenant, User
from api.tenants.tokens import not_signed_in
from api.types import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A person and the organization; `credit_balance` is in micro-credits, what is held included."""

    user_id: UUID
    tenant_id: UUID
    email: str
    full_name: str
    phone_number: str
    role: str
    is_active: bool
    tenant_name: str
    tenant_slug: str
    plan: str
    tenant_is_active: bool
    credit_balance: int


async def load_profile(database: Database, caller: Caller) -> Profile:
    """The profile of a signed-in caller. Raises 401 when the person is gone."""
    async with tenant_session(database, caller.tenant_id) as session:
        found = (
            await session.execute(
                select(User, Tenant)
                .join(Tenant, col(Tenant.id) == User.tenant_id)
                .where(col(User.id) == caller.user_id)
            )
        ).first()
        if found is None:
            raise not_signed_in()
        funds = await balance(session)
    user, tenant = found
    return Profile(
        user_id=user.id,
        tenant_id=tenant.id,
        email=user.email,
        full_name=user.full_name,
        phone_number=user.phone_number,
        role=user.role,
        is_active=user.is_active,
        tenant_name=tenant.name,
        tenant_slug=tenant.slug,
        plan=tenant.plan,
        tenant_is_active=tenant.is_active,
        credit_balance=funds.total,
    )
