"""What a key may ever spend: the ceiling beside the wallet that every hold of the key must also fit in."""

from uuid import UUID

from sqlalchemy import select, update
from sqlmodel import col

from api.db.session import TenantSession, insert_once
from api.errors import invalid_request
from api.money import credits_text
from api.tables import Budget


async def set_key_budget(session: TenantSession, *, key_id: UUID, ceiling: int) -> None:
    """Make `ceiling` micro-credits the key's budget; what it has spent under a budget so far still counts.

    Raises 400 when the key has already spent and reserved more than that.
    """
    added = await insert_once(
        session, Budget, tenant_id=session.tenant_id, id=key_id, subject="key", ceiling=ceiling
    )
    if added:
        return
    changed = await session.execute(
        update(Budget)
        .where(col(Budget.id) == key_id, col(Budget.used) + col(Budget.held) <= ceiling)
        .values(ceiling=ceiling)
        .returning(col(Budget.id))
    )
    if changed.first() is None:
        spent = await spent_under_budget(session, key_ids=[key_id])
        raise invalid_request(
            "The budget cannot be below what the key has already spent and reserved: "
            f"{credits_text(sum(spent[key_id]))} credits.",
            param="budget_limit",
        )


async def spent_under_budget(session: TenantSession, *, key_ids: list[UUID]) -> dict[UUID, tuple[int, int]]:
    """Micro-credits used and held of each of the keys that has a budget."""
    rows = await session.execute(
        select(col(Budget.id), col(Budget.used), col(Budget.held)).where(col(Budget.id).in_(key_ids))
    )
    return {key_id: (used, held) for key_id, used, held in rows}
