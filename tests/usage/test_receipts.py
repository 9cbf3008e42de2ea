"""A receipt: what was used at which price, the charge that comes of it, and what moved in the books."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlmodel import col

from api import ledger
from api.catalog.prices import cost, version_of
from api.db.engine import Database, open_database
from api.db.session import tenant_session
from api.db.system import system_session
from api.db.writer import Writer, open_writer
from api.errors import ApiError
from api.settings import Settings
from api.tables import PriceVersion, UsageRow
from api.types import TokenUsage, new_id, now
from api.usage.receipts import receipt
from tests.conftest import MakeTenant
from tests.factories import give, make_tenant
from tests.usage.factories import add, agent, key, owner, usage_row

PRICES = {"input": 777_600, "cached": 77_770, "cache_write": 972_000, "output": 3_888_001}
TOKENS = TokenUsage(input=1_001, cached=203, cache_write=17, output=99, reasoning=40)
EXACT = 1_001 * 777_600 + 203 * 77_770 + 17 * 972_000 + 99 * 3_888_001
COST = 1_196  # EXACT / 1,000,000 = 1,195.612..., rounded up once
MODEL = "kimi-k2.5-fast"
VERSION = version_of(MODEL, PRICES)


@pytest.fixture(autouse=True)
async def prices(database_settings: Settings) -> None:
    database = open_database(database_settings)
    async with system_session(database, "catalog", writes=True) as session:
        session.add(PriceVersion(id=VERSION, model=MODEL, prices=PRICES))
    await database.close()


def used(**values: Any) -> dict[str, Any]:
    return {
        "service": "llm",
        "endpoint": "/v1/chat/completions",
        "model": MODEL,
        "provider": "clarifai",
        "upstream_model": "kimi-k2_5",
        "outcome": "ok",
        "status_code": 200,
        "attempts": 2,
        "input_tokens": TOKENS.input,
        "cached_tokens": TOKENS.cached,
        "cache_write_tokens": TOKENS.cache_write,
        "output_tokens": TOKENS.output,
        "reasoning_tokens": TOKENS.reasoning,
        "price_version": VERSION,
        **values,
    }


async def held(writer: Writer, tenant_id: UUID, amount: int) -> UUID:
    request_id = new_id()
    assert await ledger.hold(
        writer,
        tenant_id=tenant_id,
        request_id=request_id,
        amount=amount,
        context=used(),
        expires_at=now() + 60_000,
    )
    return request_id


async def test_the_charge_can_be_computed_again_from_the_receipt(
    database: Database, tenant: MakeTenant, writer: Writer
) -> None:
    assert (-(-EXACT // 1_000_000), cost(TOKENS, PRICES)) == (COST, COST)
    tenant_id = await tenant(credits=10_000)
    request_id = await held(writer, tenant_id, 5_000)
    await ledger.settle(writer, tenant_id=tenant_id, request_id=request_id, cost=COST, usage=used())
    found = await receipt(database, owner(tenant_id), f"gen_{request_id.hex}")
    assert [(part.unit_class, part.units, part.price, part.exact) for part in found.parts] == [
        ("input", 1_001, 777_600, 778_377_600),
        ("cached", 203, 77_770, 15_787_310),
        ("cache_write", 17, 972_000, 16_524_000),
        ("output", 99, 3_888_001, 384_912_099),
    ]
    assert (found.exact, found.exact + found.rounding) == (EXACT, COST * 1_000_000)
    assert (found.computed, found.charge, found.held, found.provider_loss) == (COST, COST, 5_000, 0)
    assert (found.settled, found.agrees) == (True, True)
    assert [(one.kind, one.debit, one.credit, one.amount) for one in found.movements] == [
        ("hold", "wallet", "held", 5_000),
        ("settle", "held", "revenue", COST),
    ]
    assert (found.tokens, found.price_version) == (TOKENS, VERSION)
    assert (found.upstream_model, found.attempts, found.log.charge) == ("kimi-k2_5", 2, COST)


async def test_further_holds_are_on_the_receipt_and_nobody_elses(
    database: Database, tenant: MakeTenant, writer: Writer
) -> None:
    tenant_id = await tenant(credits=1_000)
    request_id = await held(writer, tenant_id, 100)
    other = await held(writer, tenant_id, 50)
    for request, amount in ((request_id, 200), (other, 30), (request_id, 300)):
        await ledger.extend(writer, tenant_id=tenant_id, request_id=request, amount=amount)
    await ledger.settle(writer, tenant_id=tenant_id, request_id=request_id, cost=COST, usage=used())
    await ledger.void(writer, tenant_id=tenant_id, request_id=other, usage=used(outcome="failed"))
    found = await receipt(database, owner(tenant_id), f"gen_{request_id.hex}")
    # The wallet had 1,000, of which 80 were held for the other request: 320 were left for the overrun.
    first, second, third, overrun, end = [(one.kind, one.amount) for one in found.movements]
    assert (first, {second, third}) == (("hold", 100), {("hold", 200), ("hold", 300)})
    assert (overrun, end) == (("hold", 320), ("settle", 920))
    assert (found.held, found.charge, found.provider_loss) == (920, 920, COST - 920)
    assert (found.computed, found.agrees) == (COST, True)


@pytest.mark.parametrize("outcome", ["failed", "refused"])
async def test_what_was_freed_is_not_charged(
    database: Database, tenant: MakeTenant, writer: Writer, outcome: str
) -> None:
    tenant_id = await tenant(credits=1_000)
    request_id = await held(writer, tenant_id, 400)
    nothing = dict.fromkeys(("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"), 0)
    await ledger.void(
        writer,
        tenant_id=tenant_id,
        request_id=request_id,
        usage=used(outcome=outcome, error_code="upstream_error", **nothing),
    )
    found = await receipt(database, owner(tenant_id), f"gen_{request_id.hex}")
    assert [(one.kind, one.amount) for one in found.movements] == [("hold", 400), ("void", 400)]
    assert (found.computed, found.charge, found.settled, found.agrees) == (0, 0, False, True)
    assert found.log.error_message == "The model's provider failed to answer."


async def test_a_test_keys_request_moves_nothing(
    database: Database, tenant: MakeTenant, writer: Writer
) -> None:
    tenant_id = await tenant()
    request_id = new_id()
    await ledger.record(writer, tenant_id=tenant_id, request_id=request_id, usage=used(live=False))
    found = await receipt(database, owner(tenant_id), f"gen_{request_id.hex}")
    assert (found.exact, found.movements, found.computed, found.agrees) == (EXACT, (), 0, True)
    assert found.log.live is False


async def test_a_charge_that_the_parts_do_not_come_to_is_flagged(database_settings: Settings) -> None:
    database = open_database(database_settings)
    tenant_id = await make_tenant(database)
    await give(database, tenant_id, 10_000)
    writer = await open_writer(database)
    settled = [
        (COST, used(), True),
        (COST + 1, used(), False),
        (COST, used(output_tokens=100), False),
        (COST, used(price_version="no-such@version"), False),
    ]
    for amount, usage, agrees in settled:
        request_id = await held(writer, tenant_id, 2_000)
        await ledger.settle(writer, tenant_id=tenant_id, request_id=request_id, cost=amount, usage=usage)
        assert (await receipt(database, owner(tenant_id), f"gen_{request_id.hex}")).agrees is agrees
    for change in ({"charge": COST - 1, "provider_loss": 1}, {"held": 2_001}):
        request_id = await held(writer, tenant_id, 2_000)
        await ledger.settle(writer, tenant_id=tenant_id, request_id=request_id, cost=COST, usage=used())
        async with tenant_session(database, tenant_id, writes=True) as session:
            await session.execute(update(UsageRow).where(col(UsageRow.id) == request_id).values(**change))
        assert not (await receipt(database, owner(tenant_id), f"gen_{request_id.hex}")).agrees
    unbooked = usage_row(charge=1_000)
    async with tenant_session(database, tenant_id, writes=True) as session:
        session.add(unbooked)
    assert not (await receipt(database, owner(tenant_id), f"gen_{unbooked.id.hex}")).agrees
    await writer.close()
    await database.close()


async def test_who_may_not_see_a_request_is_told_what_everybody_is_told(
    database: Database, tenant: MakeTenant, writer: Writer
) -> None:
    mine, other, key_id, person = await tenant(), await tenant(), new_id(), new_id()
    (row_id,) = await add(database, mine, usage_row(api_key_id=key_id, user_id=person))
    name = f"gen_{row_id.hex}"
    for caller in (owner(mine), agent(mine, person), key(mine, key_id)):
        assert (await receipt(database, caller, name)).log.id == row_id
    strangers = (owner(other), key(other, key_id, scopes=("*",)), agent(mine, new_id()), key(mine, new_id()))
    refusals = set()
    for caller, wanted in [
        *((one, name) for one in strangers),
        (owner(mine), f"gen_{new_id().hex}"),
        (owner(mine), "gen_x"),
    ]:
        with pytest.raises(ApiError) as refused:
            await receipt(database, caller, wanted)
        refusals.add((refused.value.status, refused.value.code, refused.value.message))
    assert refusals == {(404, "not_found", "Generation not found")}
