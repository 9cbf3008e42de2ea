"""The laws of a request's money, each on both databases."""

import asyncio
from uuid import UUID

import pytest

from api import ledger
from api.db.engine import Database
from api.db.session import tenant_session
from api.db.system import system_session
from api.db.writer import Writer
from api.tables import OpenHold, UsageRow
from api.types import new_id, now
from tests.conftest import MakeTenant
from tests.factories import give, usage

SOON = 4_000_000_000_000


async def _hold(writer: Writer, tenant_id: UUID, amount: int, **more: object) -> UUID | None:
    request_id = new_id()
    held = await ledger.hold(
        writer,
        tenant_id=tenant_id,
        request_id=request_id,
        amount=amount,
        context=usage(),
        expires_at=SOON,
        **more,  # type: ignore[arg-type]
    )
    return request_id if held else None


async def _settle(writer: Writer, tenant_id: UUID, request_id: UUID, cost: int) -> int | None:
    return await ledger.settle(
        writer, tenant_id=tenant_id, request_id=request_id, cost=cost, usage=usage(cost)
    )


async def _balance(database: Database, tenant_id: UUID) -> ledger.Balance:
    async with tenant_session(database, tenant_id) as session:
        return await ledger.balance(session)


async def _row(database: Database, tenant_id: UUID, request_id: UUID) -> UsageRow | None:
    async with tenant_session(database, tenant_id) as session:
        return await session.get(UsageRow, (tenant_id, request_id))


async def test_a_hold_takes_from_what_is_available_not_from_the_wallet(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    assert await _hold(writer, tenant_id, 60)
    assert await _balance(database, tenant_id) == ledger.Balance(paid=100, held=60)
    assert (await _balance(database, tenant_id)).available == 40


async def test_a_hold_is_whole_or_refused(database: Database, writer: Writer, tenant: MakeTenant) -> None:
    tenant_id = await tenant(credits=100)
    assert await _hold(writer, tenant_id, 101) is None
    assert await _hold(writer, tenant_id, 100)
    assert await _hold(writer, tenant_id, 1) is None
    assert (await _balance(database, tenant_id)).held == 100


async def test_a_hold_without_a_wallet_is_refused(writer: Writer) -> None:
    assert await _hold(writer, new_id(), 0) is None


async def test_holding_again_for_the_same_request_holds_once(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id, request_id = await tenant(credits=100), new_id()
    for _ in range(2):
        assert await ledger.hold(
            writer, tenant_id=tenant_id, request_id=request_id, amount=70, context=usage(), expires_at=SOON
        )
    assert (await _balance(database, tenant_id)).held == 70


async def test_settling_below_the_hold_charges_the_cost_and_frees_the_rest(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    request_id = await _hold(writer, tenant_id, 60)
    assert request_id is not None
    assert await _settle(writer, tenant_id, request_id, 25) == 25
    assert await _balance(database, tenant_id) == ledger.Balance(paid=75)
    row = await _row(database, tenant_id, request_id)
    assert row is not None
    assert (row.held, row.charge, row.provider_loss, row.model, row.outcome) == (60, 25, 0, "test", "ok")


async def test_settling_above_the_hold_takes_what_the_wallet_can_give(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    request_id = await _hold(writer, tenant_id, 60)
    assert request_id is not None
    assert await _settle(writer, tenant_id, request_id, 130) == 100
    assert await _balance(database, tenant_id) == ledger.Balance()
    row = await _row(database, tenant_id, request_id)
    assert row is not None
    assert (row.held, row.charge, row.provider_loss) == (100, 100, 30)


async def test_an_overrun_leaves_what_others_hold(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    request_id = await _hold(writer, tenant_id, 50)
    other = await _hold(writer, tenant_id, 40)
    assert request_id is not None
    assert other is not None
    assert await _settle(writer, tenant_id, request_id, 500) == 60
    assert await _settle(writer, tenant_id, other, 40) == 40
    assert await _balance(database, tenant_id) == ledger.Balance()


async def test_a_charge_burns_promo_then_plan_then_paid(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant()
    for amount, part in ((10, "paid"), (20, "plan"), (30, "promo")):
        await give(database, tenant_id, amount, part)  # type: ignore[arg-type]
    left = [ledger.Balance(25, 20, 10), ledger.Balance(0, 15, 10), ledger.Balance(0, 0, 5), ledger.Balance()]
    for cost, balance in zip((5, 30, 20, 5), left, strict=True):
        request_id = await _hold(writer, tenant_id, cost)
        assert request_id is not None
        assert await _settle(writer, tenant_id, request_id, cost) == cost
        assert await _balance(database, tenant_id) == balance


async def test_a_request_is_resolved_once_whoever_comes_first(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    request_id = await _hold(writer, tenant_id, 50)
    assert request_id is not None
    outcomes = await asyncio.gather(
        *(_settle(writer, tenant_id, request_id, 30) for _ in range(5)),
        *(
            ledger.void(writer, tenant_id=tenant_id, request_id=request_id, usage=usage(outcome="failed"))
            for _ in range(5)
        ),
    )
    assert list(outcomes) == [30, None, None, None, None, False, False, False, False, False]
    assert await _balance(database, tenant_id) == ledger.Balance(paid=70)


async def test_a_void_frees_everything_and_writes_the_row(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    request_id = await _hold(writer, tenant_id, 50)
    assert request_id is not None
    assert await ledger.void(
        writer, tenant_id=tenant_id, request_id=request_id, usage=usage(outcome="failed", error_code="e" * 99)
    )
    assert await _balance(database, tenant_id) == ledger.Balance(paid=100)
    row = await _row(database, tenant_id, request_id)
    assert row is not None
    assert (row.held, row.charge, row.outcome, row.error_code) == (50, 0, "failed", "e" * 64)


async def test_an_extension_is_whole_unless_partial_is_enough(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    request_id = await _hold(writer, tenant_id, 50)
    assert request_id is not None
    more = {"tenant_id": tenant_id, "request_id": request_id}
    assert await ledger.extend(writer, amount=20, **more) == 20
    assert await ledger.extend(writer, amount=40, **more) == 0
    assert await ledger.extend(writer, amount=40, partial=True, **more) == 30
    assert await ledger.extend(writer, amount=40, partial=True, **more) == 0
    assert (await _balance(database, tenant_id)).held == 100
    assert await _settle(writer, tenant_id, request_id, 90) == 90
    assert await ledger.extend(writer, amount=1, **more) == 0
    assert await _balance(database, tenant_id) == ledger.Balance(paid=10)


async def test_what_is_recorded_moves_no_money(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id, request_id = await tenant(credits=100), new_id()
    for outcome in ("refused", "ok"):
        row = usage(outcome=outcome, trace_id="\ud800 nul \0", session_id="s" * 99)
        await ledger.record(writer, tenant_id=tenant_id, request_id=request_id, usage=row)
    found = await _row(database, tenant_id, request_id)
    assert found is not None
    assert (found.outcome, found.charge, found.session_id) == ("refused", 0, "s" * 64)
    assert found.trace_id == "\ufffd nul \ufffd"
    assert await _balance(database, tenant_id) == ledger.Balance(paid=100)


async def test_the_sweeper_frees_expired_holds_and_leaves_the_others(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id, lost = await tenant(credits=100), new_id()
    await ledger.hold(
        writer,
        tenant_id=tenant_id,
        request_id=lost,
        amount=30,
        context=usage(api_key_id=new_id()),
        expires_at=now() - 1,
    )
    kept = await _hold(writer, tenant_id, 20)
    assert await ledger.sweep(database, writer, now=now()) == 1
    assert await ledger.sweep(database, writer, now=now()) == 0
    assert await _balance(database, tenant_id) == ledger.Balance(paid=100, held=20)
    row = await _row(database, tenant_id, lost)
    assert row is not None
    assert (row.outcome, row.charge, row.held, row.model) == ("interrupted", 0, 30, "test")
    assert row.api_key_id is not None
    async with system_session(database, "sweep") as session:
        assert await session.get(OpenHold, (tenant_id, kept)) is not None


async def test_a_hold_whose_caller_leaves_is_void_again(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    leaving = asyncio.create_task(_hold(writer, tenant_id, 100))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await _hold(writer, tenant_id, 100)


@pytest.mark.parametrize("amount", [-1, -(10**30)])
async def test_a_negative_amount_is_a_mistake(writer: Writer, amount: int) -> None:
    with pytest.raises(ValueError, match="micro-credits"):
        await _hold(writer, new_id(), amount)


async def test_more_than_anybody_has_is_refused_not_an_error(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    assert await _hold(writer, tenant_id, 10**30) is None
    request_id = await _hold(writer, tenant_id, 100)
    assert request_id is not None
    assert await _settle(writer, tenant_id, request_id, 2_000_000_000) == 100
