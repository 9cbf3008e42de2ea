"""What a tenant has: credits put in, the balance, the statement, ceilings beside the wallet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db.engine import Database
from api.db.session import TenantSession, insert_once, tenant_session
from api.tables import Budget, Transfer, Wallet
from api.types import Milliseconds, new_id, now

Part = Literal["promo", "plan", "paid"]

_OF_REQUESTS = frozenset({"hold", "settle", "void", "expire"})
_UNLIMITED = 1 << 61


@dataclass(frozen=True, slots=True)
class Balance:
    """Micro-credits of a wallet: its three parts, and how much of their sum is held."""

    promo: int = 0
    plan: int = 0
    paid: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """All that is there, held or not."""
        return self.promo + self.plan + self.paid

    @property
    def available(self) -> int:
        """What a new request may hold."""
        return self.total - self.held


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the statement. `amount` is what it added to the wallet: negative for a charge."""

    id: UUID
    kind: str
    amount: int
    promo: int
    plan: int
    paid: int
    source: str
    reference: str
    created_at: Milliseconds


@dataclass(frozen=True, slots=True)
class Refusal:
    """What had no room for a hold: a budget, or (None) the wallet; and what is left there."""

    budget: UUID | None
    available: int


async def credit(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    amount: int,
    part: Part,
    kind: str,
    source: str,
    reference: str,
) -> bool:
    """Add `amount` micro-credits to a part of the wallet, in the caller's transaction.

    Idempotent: False, and nothing happens, when the tenant was credited for this `kind` and `reference`
    before. Makes the wallet when there is none. `source` names where it comes from: `promotions`, `cash:…`.
    """
    if amount <= 0 or kind in _OF_REQUESTS or not reference:
        raise ValueError(f"no credit: {amount} micro-credits as {kind!r} for {reference!r}")
    values = {"promo": 0, "plan": 0, "paid": 0, part: amount}
    if not await insert_once(
        session,
        Transfer,
        tenant_id=tenant_id,
        id=new_id(),
        kind=kind,
        debit=source,
        credit="wallet",
        amount=amount,
        reference=reference,
        created_at=now(),
        **values,
    ):
        return False
    if not await insert_once(session, Wallet, tenant_id=tenant_id, **values):
        column = getattr(Wallet, part)
        await session.execute(
            update(Wallet).where(col(Wallet.tenant_id) == tenant_id).values({part: column + amount})
        )
    return True


async def balance(session: TenantSession) -> Balance:
    """The wallet as it stands; all zero when there is none."""
    wallet = await session.get(Wallet, session.tenant_id, populate_existing=True)
    if wallet is None:
        return Balance()
    return Balance(wallet.promo, wallet.plan, wallet.paid, wallet.held)


async def statement(session: TenantSession, limit: int = 50, before: UUID | None = None) -> list[Entry]:
    """Credits and charges, the newest first; `before` is the id of the last one already shown."""
    query = select(Transfer).where(col(Transfer.kind).not_in(("hold", "void", "expire")))
    if before is not None:
        query = query.where(col(Transfer.id) < before)
    rows = await session.scalars(query.order_by(col(Transfer.id).desc()).limit(limit))
    return [
        Entry(
            id=row.id,
            kind=row.kind,
            amount=row.promo + row.plan + row.paid,
            promo=row.promo,
            plan=row.plan,
            paid=row.paid,
            source=row.debit,
            reference=row.reference,
            created_at=row.created_at,
        )
        for row in rows
    ]


async def why_refused(database: Database, tenant_id: UUID, amount: int, budgets: Iterable[UUID]) -> Refusal:
    """What refuses a hold of `amount` now: the first budget without room, else the wallet.

    A budget that does not exist has nothing left.
    """
    async with tenant_session(database, tenant_id) as session:
        for identity in budgets:
            budget = await session.get(Budget, (tenant_id, identity))
            left = max(0, budget.ceiling - budget.used - budget.held) if budget else 0
            if left < amount:
                return Refusal(identity, left)
        return Refusal(None, (await balance(session)).available)


async def set_budget(
    session: TenantSession, *, budget_id: UUID, subject: str, ceiling: int | None, used: int = 0
) -> None:
    """Cap spending that names `budget_id` at `ceiling` micro-credits; None lifts the cap and keeps counting.

    `used` is what counts as spent when the budget is new. Holds that are open are not taken back.
    """
    limit = _UNLIMITED if ceiling is None else min(ceiling, _UNLIMITED)
    if limit < 0 or used < 0:
        raise ValueError(f"a budget of {ceiling} micro-credits, {used} used")
    made = await insert_once(
        session, Budget, id=budget_id, subject=subject, ceiling=limit, opening=used, used=used
    )
    if not made:
        await session.execute(update(Budget).where(col(Budget.id) == budget_id).values(ceiling=limit))
