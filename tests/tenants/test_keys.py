import re
from typing import Any

import pytest
from sqlalchemy import select

from api import ledger
from api.db.engine import Database
from api.db.session import tenant_session
from api.db.writer import Writer
from api.errors import ApiError
from api.settings import Settings
from api.tables import ApiKey, ApiKeySecret, Budget
from api.tenants.authenticate import KeyRing
from api.tenants.key_text import is_well_formed, key_hash, new_key_text
from api.tenants.keys import (
    KeyDetails,
    NewKey,
    create_key,
    delete_key,
    get_key,
    list_keys,
    revoke_key,
    rotate_key,
    update_key,
)
from api.tenants.secrets import derive, load_secret
from api.tenants.session_keys import session_key
from api.tenants.signed_in import SessionCaller
from api.types import Caller, new_id, now
from tests.factories import usage
from tests.tenants.site import make_person


@pytest.fixture
async def owner(database: Database, settings: Settings) -> SessionCaller:
    caller, _ = await make_person(database, settings)
    return caller


async def make(
    database: Database, settings: Settings, owner: SessionCaller, **allows: Any
) -> tuple[KeyDetails, str]:
    return await create_key(database, load_secret(settings), owner, NewKey(**{"name": "Test", **allows}))


async def budget(database: Database, owner: Caller) -> Budget | None:
    async with tenant_session(database, owner.tenant_id) as session:
        return (await session.execute(select(Budget))).scalar_one_or_none()


async def spend(writer: Writer, owner: Caller, details: KeyDetails, cost: int, *, hold: int = 0) -> None:
    """Charge `cost` to the key, or leave `hold` held for it; through the books."""
    request_id, ceilings = new_id(), [details.id] if details.budget_limit else []
    about = usage(cost, api_key_id=details.id.hex)
    assert await ledger.hold(
        writer,
        tenant_id=owner.tenant_id,
        request_id=request_id,
        amount=hold or cost,
        budgets=ceilings,
        context=about,
        expires_at=now() + 60_000,
    )
    if not hold:
        await ledger.settle(writer, tenant_id=owner.tenant_id, request_id=request_id, cost=cost, usage=about)


def test_keys_have_the_published_form_and_a_checksum_that_catches_every_single_typo() -> None:
    text = new_key_text(live=True)
    assert re.fullmatch(r"cm_live_[0-9A-Za-z]{36}", text)
    assert is_well_formed(text)
    assert new_key_text(live=False).startswith("cm_test_")
    for place in range(3, len(text)):
        for other in "0aZ":
            typo = text[:place] + other + text[place + 1 :]
            assert is_well_formed(typo) is (typo == text)
    swapped = text[:8] + text[9] + text[8] + text[10:]
    assert is_well_formed(swapped) is (swapped == text)
    assert len({new_key_text(live=True) for _ in range(1000)}) == 1000


async def test_only_the_hmac_of_a_key_is_stored(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, text = await make(database, settings, owner)
    async with tenant_session(database, owner.tenant_id) as session:
        stored = (await session.execute(select(ApiKeySecret))).scalar_one()
        key = (await session.execute(select(ApiKey))).scalar_one()
    assert stored.secret_hash == key_hash(derive(load_secret(settings), b"api-keys"), text)
    assert details.hint == f"cm_live_…{text[-4:]}"
    everything = f"{stored.model_dump()} {key.model_dump()}"
    assert text[8:-4] not in everything


async def test_keys_are_made_by_owners_and_admins_who_are_signed_in(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, text = await make(database, settings, owner)
    agent = SessionCaller(
        tenant_id=owner.tenant_id,
        kind="session",
        plan="free",
        role="agent",
        user_id=owner.user_id,
        session_id=owner.session_id,
    )
    ring = KeyRing(database, load_secret(settings))
    key = await ring.caller(text)
    await ring.close()
    for caller, status in ((agent, 403), (key, 401)):
        for attempt in (
            create_key(database, load_secret(settings), caller, NewKey(name="x")),
            list_keys(database, caller),
            get_key(database, caller, details.id),
            update_key(database, caller, details.id, {"name": "x"}),
            rotate_key(database, load_secret(settings), caller, details.id, overlap_hours=0),
            revoke_key(database, caller, details.id),
            delete_key(database, caller, details.id),
        ):
            with pytest.raises(ApiError) as refused:
                await attempt
            assert refused.value.status == status
    with pytest.raises(ApiError, match="Requires role"):
        await session_key(database, load_secret(settings), agent)


async def test_a_foreign_key_and_a_missing_one_are_the_same_404(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, _ = await make(database, settings, owner, budget_limit=7)
    stranger, _ = await make_person(database, settings, address="ben@example.com")
    answers = set()
    for key_id in (details.id, new_id()):
        for attempt in (
            get_key(database, stranger, key_id),
            update_key(database, stranger, key_id, {"name": "x", "budget_limit": 9}),
            rotate_key(database, load_secret(settings), stranger, key_id, overlap_hours=0),
            revoke_key(database, stranger, key_id),
            delete_key(database, stranger, key_id),
        ):
            with pytest.raises(ApiError) as refused:
                await attempt
            answers.add((refused.value.status, refused.value.code, refused.value.message))
    assert answers == {(404, "not_found", "API key not found")}
    assert await list_keys(database, stranger) == []
    assert await get_key(database, owner, details.id) == details
    assert await budget(database, stranger) is None


async def test_the_dashboards_own_keys_cannot_be_reached_as_keys(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    await session_key(database, load_secret(settings), owner)
    async with tenant_session(database, owner.tenant_id) as session:
        hidden = (await session.execute(select(ApiKey.id))).scalar_one()
    with pytest.raises(ApiError, match="not found"):
        await get_key(database, owner, hidden)
    with pytest.raises(ApiError, match="not found"):
        await rotate_key(database, load_secret(settings), owner, hidden, overlap_hours=24)


async def test_a_key_with_a_budget_has_a_row_that_every_hold_must_fit_in(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, _ = await make(database, settings, owner, budget_limit=5_000_000)
    row = await budget(database, owner)
    assert row is not None
    assert (row.id, row.subject, row.ceiling, row.used, row.held) == (details.id, "key", 5_000_000, 0, 0)
    assert (details.budget_limit, details.budget_used) == (5_000_000, 0)


async def test_a_budget_set_later_counts_what_the_key_has_spent_before(
    database: Database, settings: Settings, owner: SessionCaller, writer: Writer
) -> None:
    details, text = await make(database, settings, owner)
    await spend(writer, owner, details, 2_000_000)
    await spend(writer, owner, details, 500_000)
    with pytest.raises(ApiError, match=r"already spent and reserved: 2\.5 credits"):
        await update_key(database, owner, details.id, {"budget_limit": 2_499_999})
    assert (await get_key(database, owner, details.id)).budget_limit is None
    changed = await update_key(database, owner, details.id, {"budget_limit": 2_500_000})
    assert (changed.budget_limit, changed.budget_used) == (2_500_000, 2_500_000)
    ring = KeyRing(database, load_secret(settings))
    assert (await ring.caller(text)).budget_ids == (details.id,)
    await ring.close()


async def test_a_budget_is_never_set_below_what_is_used_and_held(
    database: Database, settings: Settings, owner: SessionCaller, writer: Writer
) -> None:
    details, _ = await make(database, settings, owner, budget_limit=10)
    await spend(writer, owner, details, 4)
    await spend(writer, owner, details, 0, hold=3)
    with pytest.raises(ApiError) as refused:
        await update_key(database, owner, details.id, {"budget_limit": 6, "name": "changed"})
    assert (refused.value.status, refused.value.param) == (400, "budget_limit")
    kept = await get_key(database, owner, details.id)
    assert (kept.name, kept.budget_limit, kept.budget_used, kept.budget_held) == ("Test", 10, 4, 3)
    assert (await update_key(database, owner, details.id, {"budget_limit": 7})).budget_limit == 7


async def test_a_lifted_budget_counts_on_and_comes_back_right(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, text = await make(database, settings, owner, budget_limit=10)
    lifted = await update_key(database, owner, details.id, {"budget_limit": None})
    assert lifted.budget_limit is None
    ring = KeyRing(database, load_secret(settings))
    assert (await ring.caller(text)).budget_ids == (details.id,)
    await ring.close()
    row = await budget(database, owner)
    assert row is not None
    assert row.ceiling > 10**15
    assert (await update_key(database, owner, details.id, {"budget_limit": 20})).budget_limit == 20
    row = await budget(database, owner)
    assert row is not None
    assert row.ceiling == 20


async def test_a_deleted_key_leaves_its_budget_to_the_books(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, _ = await make(database, settings, owner, budget_limit=10)
    await delete_key(database, owner, details.id)
    assert await list_keys(database, owner) == []
    async with tenant_session(database, owner.tenant_id) as session:
        assert (await session.execute(select(ApiKeySecret))).all() == []
    assert await budget(database, owner) is not None


async def test_a_revoked_key_stays_in_the_list_and_cannot_be_rotated(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, _ = await make(database, settings, owner)
    once = await revoke_key(database, owner, details.id)
    again = await revoke_key(database, owner, details.id)
    assert once.revoked_at == again.revoked_at is not None
    assert [key.is_active for key in await list_keys(database, owner)] == [False]
    with pytest.raises(ApiError, match="cannot be rotated"):
        await rotate_key(database, load_secret(settings), owner, details.id, overlap_hours=1)


async def test_keys_are_listed_the_newest_first(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    for name in ("a", "b", "c"):
        await make(database, settings, owner, name=name)
    assert [key.name for key in await list_keys(database, owner)] == ["c", "b", "a"]
