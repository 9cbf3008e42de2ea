"""Five hundred at once on what is good for ten: ten are served, whoever writes."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from api import ledger
from api.db.engine import Database
from api.db.session import tenant_session
from api.db.writer import Writer, open_writer
from api.types import new_id, now
from tests.conftest import MakeTenant
from tests.factories import usage

PRICE = 7


async def _call(writer: Writer, tenant_id: UUID, budgets: list[UUID]) -> str:
    request_id = new_id()
    held = await ledger.hold(
        writer,
        tenant_id=tenant_id,
        request_id=request_id,
        amount=PRICE,
        budgets=budgets,
        context=usage(),
        expires_at=now() + 600_000,
    )
    if not held:
        return "refused"
    await asyncio.sleep(0.01)
    charged = await ledger.settle(
        writer, tenant_id=tenant_id, request_id=request_id, cost=PRICE, usage=usage(PRICE)
    )
    return f"charged {charged}"


@pytest.mark.parametrize("writers", [1, 3])
@pytest.mark.parametrize("bound", ["wallet", "budget"])
async def test_a_herd_spends_exactly_what_is_there(
    database: Database, tenant: MakeTenant, writers: int, bound: str
) -> None:
    tenant_id = await tenant(credits=10 * PRICE if bound == "wallet" else 10_000 * PRICE)
    budgets = [new_id()] if bound == "budget" else []
    async with tenant_session(database, tenant_id, writes=True) as session:
        for budget in budgets:
            await ledger.set_budget(session, budget_id=budget, subject="key", ceiling=10 * PRICE)
    before = 10_000 * PRICE if budgets else 10 * PRICE
    async with AsyncExitStack() as stack:
        opened = [await open_writer(database) for _ in range(writers)]
        for writer in opened:
            stack.push_async_callback(writer.close)
        outcomes = await asyncio.gather(
            *(_call(opened[number % writers], tenant_id, budgets) for number in range(500))
        )
    assert Counter(outcomes) == {"refused": 490, f"charged {PRICE}": 10}
    async with tenant_session(database, tenant_id) as session:
        assert await ledger.balance(session) == ledger.Balance(paid=before - 10 * PRICE)


async def test_writers_that_share_many_tenants_do_not_block_each_other(
    database: Database, tenant: MakeTenant
) -> None:
    tenants = [await tenant(credits=1000) for _ in range(20)]
    async with AsyncExitStack() as stack:
        opened = [await open_writer(database) for _ in range(3)]
        for writer in opened:
            stack.push_async_callback(writer.close)
        calls = [(writer, tenant_id) for writer in opened for tenant_id in tenants for _ in range(5)]
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*(_call(writer, tenant_id, []) for writer, tenant_id in calls))
    assert set(outcomes) == {f"charged {PRICE}"}
