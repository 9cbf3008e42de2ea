"""The books cannot be rewritten, and `verify` names what does not add up."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api import ledger
from api.db.engine import Database, open_database
from api.db.migrate import migration_engine
from api.db.session import tenant_session
from api.db.writer import open_writer
from api.settings import Settings
from api.types import new_id, now
from tests.factories import give, make_prices, make_tenant, usage


@pytest.fixture
async def books(database_settings: Settings) -> AsyncIterator[Database]:
    """Books with something of everything: credits, charges, an overrun, a void, an open hold, a budget."""
    database = open_database(database_settings)
    await make_prices(database)
    tenant_id, budget = await make_tenant(database), new_id()
    await give(database, tenant_id, 1000, "paid")
    await give(database, tenant_id, 50, "promo")
    async with tenant_session(database, tenant_id, writes=True) as session:
        await ledger.set_budget(session, budget_id=budget, subject="key", ceiling=900, used=5)
    writer = await open_writer(database)
    requests: list[UUID] = [new_id() for _ in range(4)]
    for request_id in requests:
        await ledger.hold(
            writer,
            tenant_id=tenant_id,
            request_id=request_id,
            amount=100,
            budgets=[budget],
            context=usage(),
            expires_at=now() + 600_000,
        )
    of = {"tenant_id": tenant_id}
    await ledger.extend(writer, **of, request_id=requests[0], amount=20)
    await ledger.settle(writer, **of, request_id=requests[0], cost=70, usage=usage(70))
    await ledger.settle(writer, **of, request_id=requests[1], cost=130, usage=usage(130))
    await ledger.void(writer, **of, request_id=requests[2], usage=usage(outcome="failed"))
    await ledger.record(writer, **of, request_id=new_id(), usage=usage(outcome="refused"))
    await writer.close()
    yield database
    await database.close()


async def _as_owner(settings: Settings, *statements: str) -> None:
    engine = migration_engine(settings)
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
            await connection.commit()
    finally:
        await engine.dispose()


async def test_sound_books_have_no_drift(books: Database) -> None:
    report = await ledger.verify(books)
    assert report.drift == []
    assert report.checked == {
        "wallets": 1,
        "transfers": 11,
        "open_holds": 1,
        "budgets": 1,
        "usage_rows": 4,
    }


@pytest.mark.parametrize(
    "change", ["UPDATE transfers SET amount = amount", "DELETE FROM transfers", "TRUNCATE transfers"]
)
async def test_movements_cannot_be_changed_even_by_the_tables_owner(
    books: Database, database_settings: Settings, change: str
) -> None:
    if books.is_sqlite and change.startswith("TRUNCATE"):
        change = "REPLACE INTO transfers SELECT * FROM transfers"
    with pytest.raises(DBAPIError, match=r"append-only|UNIQUE"):
        await _as_owner(database_settings, change)
    assert (await ledger.verify(books)).drift == []


FORGERIES = {
    "a wallet differs from its movements": ["UPDATE wallets SET paid = paid + 1, promo = promo + 1"],
    "a wallet's holds differ": ["UPDATE wallets SET held = held + 1"],
    "a wallet is overdrawn": ["UPDATE wallets SET held = 5000"],
    "an open hold differs": ["UPDATE open_holds SET amount = amount - 1"],
    "a held request is neither open nor resolved": ["DELETE FROM open_holds"],
    "a resolved request and its usage row differ": ["DELETE FROM usage_rows WHERE charge = 70"],
    "a usage row has money without a movement": ["UPDATE usage_rows SET held = 3 WHERE outcome = 'refused'"],
    "a charge differs from its prices": ["UPDATE usage_rows SET output_tokens = 1 WHERE charge = 70"],
    "a budget's holds differ": ["UPDATE budgets SET held = held - 1"],
    "a budget differs from what was charged": ["UPDATE budgets SET used = used - 1"],
    "a movement's parts are not its amount": ["UPDATE transfers SET paid = 0 WHERE kind = 'settle'"],
    "a charge is more than was held": ["UPDATE transfers SET amount = 1 WHERE kind = 'hold'"],
}


@pytest.mark.parametrize("claim", FORGERIES)
async def test_a_forgery_is_named(books: Database, database_settings: Settings, claim: str) -> None:
    """Also one that got past triggers and constraints."""
    if claim == "a wallet is overdrawn" and not books.is_sqlite:
        with pytest.raises(DBAPIError, match="wallet_holds_fit"):
            await _as_owner(database_settings, *FORGERIES[claim])
        return
    past = ["DROP TRIGGER transfers_no_update", "PRAGMA ignore_check_constraints = ON"]
    if not books.is_sqlite:
        past = ["SET LOCAL session_replication_role = replica"]
    await _as_owner(database_settings, *past, *FORGERIES[claim])
    drift = (await ledger.verify(books)).drift
    assert any(line.startswith(claim) for line in drift), drift
