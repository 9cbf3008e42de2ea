"""Credits come in once, the statement tells of them, and budgets are ceilings beside the wallet."""

import asyncio
from uuid import UUID

import pytest

from api import ledger
from api.db.engine import Database
from api.db.session import tenant_session
from api.db.system import system_session
from api.db.writer import Writer
from api.tables import Budget
from api.types import new_id, now
from tests.conftest import MakeTenant
from tests.factories import give, make_tenant, usage


async def _credit(database: Database, tenant_id: UUID, reference: str, amount: int = 50) -> bool:
    async with system_session(database, "operator", writes=True) as session:
        return await ledger.credit(
            session,
            tenant_id=tenant_id,
            amount=amount,
            part="paid",
            kind="topup",
            source="cash:stripe",
            reference=reference,
        )


async def _balance(database: Database, tenant_id: UUID) -> ledger.Balance:
    async with tenant_session(database, tenant_id) as session:
        return await ledger.balance(session)


async def _budget(
    database: Database, tenant_id: UUID, ceiling: int | None, budget_id: UUID | None = None
) -> UUID:
    budget_id = budget_id or new_id()
    async with tenant_session(database, tenant_id, writes=True) as session:
        await ledger.set_budget(session, budget_id=budget_id, subject="key", ceiling=ceiling)
    return budget_id


async def _hold(writer: Writer, tenant_id: UUID, amount: int, *budgets: UUID) -> UUID | None:
    request_id = new_id()
    held = await ledger.hold(
        writer,
        tenant_id=tenant_id,
        request_id=request_id,
        amount=amount,
        budgets=budgets,
        context=usage(),
        expires_at=now() + 600_000,
    )
    return request_id if held else None


async def _settle(writer: Writer, tenant_id: UUID, request_id: UUID | None, cost: int) -> int | None:
    assert request_id is not None
    return await ledger.settle(
        writer, tenant_id=tenant_id, request_id=request_id, cost=cost, usage=usage(cost)
    )


async def test_a_payment_is_credited_once_however_often_it_is_told(database: Database) -> None:
    tenant_id = await make_tenant(database)
    told = await asyncio.gather(*(_credit(database, tenant_id, "payment-1") for _ in range(20)))
    assert sum(told) == 1
    assert await _credit(database, tenant_id, "payment-2")
    assert await _balance(database, tenant_id) == ledger.Balance(paid=100)


async def test_a_credit_makes_the_wallet_it_needs(database: Database) -> None:
    tenant_id = await make_tenant(database, wallet=False)
    assert await _balance(database, tenant_id) == ledger.Balance()
    assert await _credit(database, tenant_id, "payment-1")
    assert await _balance(database, tenant_id) == ledger.Balance(paid=50)


async def test_a_credit_shares_the_fate_of_its_transaction(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    with pytest.raises(RuntimeError):
        async with tenant_session(database, tenant_id, writes=True) as session:
            assert await ledger.credit(
                session,
                tenant_id=tenant_id,
                amount=5,
                part="promo",
                kind="signup_bonus",
                source="promotions",
                reference="signup",
            )
            assert (await ledger.balance(session)).promo == 5
            raise RuntimeError
    assert await _balance(database, tenant_id) == ledger.Balance()


@pytest.mark.parametrize(
    ("amount", "kind", "reference"), [(0, "t", "r"), (-1, "t", "r"), (1, "settle", "r"), (1, "t", "")]
)
async def test_what_is_no_credit_is_a_mistake(
    database: Database, tenant: MakeTenant, amount: int, kind: str, reference: str
) -> None:
    tenant_id = await tenant()
    async with tenant_session(database, tenant_id, writes=True) as session:
        with pytest.raises(ValueError, match="no credit"):
            await ledger.credit(
                session,
                tenant_id=tenant_id,
                amount=amount,
                part="paid",
                kind=kind,
                source="s",
                reference=reference,
            )


async def test_the_statement_lists_credits_and_charges_newest_first(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant()
    await give(database, tenant_id, 30, "promo")
    await give(database, tenant_id, 70, "paid")
    for cost in (10, 25):
        await _settle(writer, tenant_id, await _hold(writer, tenant_id, 50), cost)
    async with tenant_session(database, tenant_id) as session:
        entries = await ledger.statement(session)
        page = await ledger.statement(session, limit=2)
        rest = await ledger.statement(session, limit=9, before=page[-1].id)
    assert [(entry.kind, entry.amount) for entry in entries] == [
        ("settle", -25),
        ("settle", -10),
        ("grant", 70),
        ("grant", 30),
    ]
    assert (entries[0].promo, entries[0].paid) == (-20, -5)
    assert page + rest == entries


async def test_a_hold_must_fit_every_budget_it_names(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=1000)
    small, large = await _budget(database, tenant_id, 100), await _budget(database, tenant_id, 500)
    first = await _hold(writer, tenant_id, 80, small, large, small)
    assert first is not None
    assert await _hold(writer, tenant_id, 21, large, small) is None
    assert await _hold(writer, tenant_id, 21, large) is not None
    assert await _settle(writer, tenant_id, first, 30) == 30
    assert await _hold(writer, tenant_id, 71, small) is None
    assert await _hold(writer, tenant_id, 70, small) is not None


async def test_a_budget_that_does_not_exist_has_no_room(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id, other = await tenant(credits=100), await tenant(credits=100)
    foreign = await _budget(database, other, 100)
    assert await _hold(writer, tenant_id, 1, new_id()) is None
    assert await _hold(writer, tenant_id, 1, foreign) is None


async def test_budgets_bound_extensions_and_overruns_too(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=1000)
    budget = await _budget(database, tenant_id, 100)
    request_id = await _hold(writer, tenant_id, 60, budget)
    assert request_id is not None
    more = {"tenant_id": tenant_id, "request_id": request_id}
    assert await ledger.extend(writer, amount=41, **more) == 0
    assert await ledger.extend(writer, amount=30, **more) == 30
    assert await _settle(writer, tenant_id, request_id, 130) == 100
    assert await _hold(writer, tenant_id, 1, budget) is None
    assert (await _balance(database, tenant_id)).available == 900


async def test_a_ceiling_may_be_lowered_below_what_is_held_and_lifted(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=1000)
    budget = await _budget(database, tenant_id, 100)
    request_id = await _hold(writer, tenant_id, 80, budget)
    await _budget(database, tenant_id, 10, budget)
    assert await _hold(writer, tenant_id, 1, budget) is None
    assert await _settle(writer, tenant_id, request_id, 200) == 80
    await _budget(database, tenant_id, None, budget)
    assert await _hold(writer, tenant_id, 500, budget) is not None
    async with tenant_session(database, tenant_id) as session:
        row = await session.get(Budget, (tenant_id, budget))
    assert row is not None
    assert (row.used, row.held) == (80, 500)


async def test_a_refusal_names_what_has_no_room(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant(credits=100)
    small, large = await _budget(database, tenant_id, 10), await _budget(database, tenant_id, 500)
    assert await ledger.why_refused(database, tenant_id, 11, [large, small]) == ledger.Refusal(small, 10)
    assert await ledger.why_refused(database, tenant_id, 101, [large]) == ledger.Refusal(None, 100)
    missing = new_id()
    assert await ledger.why_refused(database, tenant_id, 1, [missing]) == ledger.Refusal(missing, 0)
