"""What a key may ever spend: a ceiling beside the wallet that every hold of the key must also fit in."""

from uuid import UUID

from sqlalchemy import func, select
from sqlmodel import col

from api.db.session import TenantSession
from api.errors import invalid_request
from api.ledger import set_budget
from api.money import credits_text
from api.tables import Budget, UsageRow


async def set_key_budget(session: TenantSession, *, key_id: UUID, ceiling: int | None) -> None:
    """Make `ceiling` micro-credits all that the key may ever spend, what it has spent so far included.

    None lifts the ceiling; what is spent is counted on. Raises 400 when the key has already spent and
    reserved more than that.
    """
    spent = (await spent_under_budget(session, key_ids=[key_id])).get(key_id)
    if spent is None and ceiling is None:
        return
    used, held = spent or (await _spent_so_far(session, key_id), 0)
    if ceiling is not None and ceiling < used + held:
        raise invalid_request(
            "The budget cannot be below what the key has already spent and reserved: "
            f"{credits_text(used + held)} credits.",
            param="budget_limit",
        )
    await set_budget(session, budget_id=key_id, subject="key", ceiling=ceiling, used=used)


async def spent_under_budget(session: TenantSession, *, key_ids: list[UUID]) -> dict[UUID, tuple[int, int]]:
    """Micro-credits used and held of each of the keys that has, or had, a budget."""
    rows = await session.execute(
        select(col(Budget.id), col(Budget.used), col(Budget.held)).where(col(Budget.id).in_(key_ids))
    )
    return {key_id: (used, held) for key_id, used, held in rows}


async def _spent_so_far(session: TenantSession, key_id: UUID) -> int:
    """Micro-credits of every charge to a key that had no budget yet."""
    total = await session.execute(
        select(col(UsageRow.api_key_id), func.sum(col(UsageRow.charge)))
        .where(col(UsageRow.api_key_id) == key_id)
        .group_by(col(UsageRow.api_key_id))
    )
    found = total.first()
    return int(found[1]) if found else 0
