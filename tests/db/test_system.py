"""The unscoped door: who may pass is on a list, and even there movements cannot be rewritten."""

from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from api.db.engine import Database
from api.db.session import ScopeError, tenant_session
from api.db.system import system_session
from api.tables import Tenant, Wallet
from tests.conftest import MakeTenant


async def test_it_sees_all_tenants(database: Database, tenant: MakeTenant) -> None:
    made = {await tenant() for _ in range(3)}
    async with system_session(database, "verify") as session:
        assert set(await session.scalars(select(Tenant.id))) == made


async def test_a_reason_that_is_not_on_the_list_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="no reason"):
        async with system_session(database, "curiosity"):  # type: ignore[arg-type]
            pass


async def test_a_reading_session_writes_nothing(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    async with system_session(database, "verify") as session:
        with pytest.raises(ScopeError):
            await session.execute(update(Wallet).values(paid=1))
        wallet = await session.get(Wallet, tenant_id)
        assert wallet is not None
        wallet.paid = 5
        with pytest.raises(ScopeError):
            await session.flush()
        session.expunge_all()


@pytest.mark.parametrize("change", ["UPDATE transfers SET amount = 0", "DELETE FROM transfers"])
async def test_movements_are_append_only_here_too(
    database: Database, tenant: MakeTenant, change: str
) -> None:
    await tenant(credits=5)
    with pytest.raises(DBAPIError, match=r"append-only|permission denied"):
        async with system_session(database, "operator", writes=True) as session:
            await session.execute(text(change))


async def test_postgresql_knows_who_is_asking(postgresql_database: Database, tenant_of: Any) -> None:
    who = text("SELECT current_user, current_setting('app.tenant', true)")
    tenant_id = await tenant_of(postgresql_database, 5)
    async with tenant_session(postgresql_database, tenant_id) as session:
        # Below the guard, as a mistake in it would be.
        found = await session.run_sync(_below_the_guard, str(who))
        assert tuple(found.one()) == ("callmissed_app", str(tenant_id))
    async with system_session(postgresql_database, "verify") as session:
        assert (await session.execute(who)).one()[0] == "callmissed_system"
    async with postgresql_database.engine.connect() as connection:
        assert tuple((await connection.execute(who)).one()) in (
            ("callmissed_app", ""),
            ("callmissed_app", None),
        )


async def test_row_level_security_confines_what_slips_past_the_guard(
    postgresql_database: Database, tenant_of: Any
) -> None:
    mine, other = await tenant_of(postgresql_database, 5), await tenant_of(postgresql_database, 7)

    async with tenant_session(postgresql_database, mine, writes=True) as session:
        for table in ("wallets", "transfers"):
            rows = await session.run_sync(_below_the_guard, f"SELECT tenant_id FROM {table}")
            assert {tenant_id for (tenant_id,) in rows} == {mine}
        changed = await session.run_sync(_below_the_guard, "UPDATE wallets SET plan = 1")
        assert changed.rowcount == 1
        await session.run_sync(_below_the_guard, "UPDATE wallets SET plan = 0")
        with pytest.raises(DBAPIError, match="row-level security"):
            values = f"('{other}', '{other}', 'key', 1)"
            columns = "tenant_id, id, subject, ceiling"
            await session.run_sync(_below_the_guard, f"INSERT INTO budgets ({columns}) VALUES {values}")
        await session.rollback()


def _below_the_guard(sync: Any, statement: str) -> Any:
    """Run text on the connection of a tenant's session, as a hole in the guard would."""
    return sync._connection_for_bind(sync.get_bind()).execute(text(statement))
