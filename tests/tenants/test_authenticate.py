import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select, update

from api.db.engine import Database, open_database
from api.db.session import tenant_session
from api.errors import ApiError
from api.settings import Settings
from api.tables import ApiKey, ApiKeySecret, Session, Tenant, User
from api.tenants.authenticate import KeyRing
from api.tenants.key_text import new_key_text
from api.tenants.keys import (
    NewKey,
    create_key,
    delete_key,
    list_keys,
    revoke_key,
    rotate_key,
    update_key,
)
from api.tenants.last_used import notes_written
from api.tenants.secrets import load_secret
from api.tenants.session_keys import session_key
from api.tenants.sessions import end_session
from api.tenants.signed_in import SessionCaller
from api.types import now
from tests.tenants.site import make_person

PAST_TRUST = 1.05


@pytest.fixture
async def owner(database: Database, settings: Settings) -> SessionCaller:
    caller, _ = await make_person(database, settings)
    return caller


@pytest.fixture
async def ring(database: Database, settings: Settings) -> AsyncIterator[KeyRing]:
    opened = KeyRing(database, load_secret(settings))
    yield opened
    await opened.close()


async def make(
    database: Database, settings: Settings, owner: SessionCaller, **allows: Any
) -> tuple[Any, str]:
    return await create_key(database, load_secret(settings), owner, NewKey(**{"name": "Test", **allows}))


async def change(database: Database, owner: SessionCaller, table: Any, **values: Any) -> None:
    """Change rows of the organization behind the product's back, as another process would."""
    async with tenant_session(database, owner.tenant_id, writes=True) as session:
        await session.execute(update(table).values(**values))


async def refusal(ring: KeyRing, text: str, **page: str) -> tuple[int, str]:
    assert ring.cached(text, page.get("origin"), page.get("referer")) is None
    with pytest.raises(ApiError) as refused:
        await ring.caller(text, origin=page.get("origin"), referer=page.get("referer"))
    return refused.value.status, refused.value.code


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """Statements that reach the database."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        if "api_key_secrets" in arguments[2] and arguments[2].startswith("SELECT"):
            seen.append(arguments[2])

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def test_a_key_becomes_a_caller_with_everything_it_allows(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    details, text = await make(
        database,
        settings,
        owner,
        permissions="llm,stt",
        scopes="usage:read",
        allowed_models=("local/a", "gpt-5"),
        rate_limit_rpm=7,
        budget_limit=5_000_000,
        logs_enabled=True,
    )
    caller = await ring.caller(text)
    assert (caller.tenant_id, caller.key_id, caller.kind) == (owner.tenant_id, details.id, "key")
    assert (caller.permissions, caller.scopes) == ({"llm", "stt"}, {"usage:read"})
    assert caller.allowed_models == {"local/a", "gpt-5"}
    assert (caller.rate_limit_rpm, caller.budget_ids) == (7, (details.id,))
    assert (caller.live, caller.logs_enabled, caller.prompt_logging_enabled) == (True, True, False)
    assert caller.user_id is None


PLANS = {
    "free": 60,
    "starter": 500,
    "pro": 3_000,
    "enterprise": 10_000,
    "self_hosted": 10_000,
    "gone": 60,
}


async def test_a_key_without_a_figure_of_its_own_has_its_plans(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    details, text = await make(database, settings, owner)
    for plan, rpm in PLANS.items():
        await change(database, owner, Tenant, plan=plan)
        ring.forget(details.id)
        caller = await ring.caller(text)
        assert (caller.rate_limit_rpm, caller.plan, caller.budget_ids) == (rpm, plan, ())
        assert caller.allowed_models is None


async def test_a_test_key_moves_no_money(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner, kind="test")
    assert text.startswith("cm_test_")
    assert (await ring.caller(text)).live is False


async def test_typos_and_other_texts_cost_no_query(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner)
    typos = [text[:20] + ("x" if text[20] != "x" else "y") + text[21:], text[:-1], text + "0", text.upper()]
    with counted(database) as queries:
        for bad in (*typos, "", "cm_", "Bearer", "cm_live_" + "0" * 36, "é" * 44, "\ud800", "x" * 100_000):
            assert await refusal(ring, bad) == (401, "invalid_api_key")
    assert queries == []


async def test_an_unknown_key_is_asked_for_once_a_second_and_once_by_many(
    database: Database, ring: KeyRing
) -> None:
    text = new_key_text(live=True)
    with counted(database) as queries:
        answers = await asyncio.gather(*(ring.caller(text) for _ in range(50)), return_exceptions=True)
        assert {getattr(answer, "code", None) for answer in answers} == {"invalid_api_key"}
        assert await refusal(ring, text) == (401, "invalid_api_key")
    assert len(queries) == 1


async def test_a_known_key_is_answered_without_a_query_for_at_most_a_second(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner)
    assert ring.cached(text) is None
    with counted(database) as queries:
        callers = await asyncio.gather(*(ring.caller(text) for _ in range(50)))
        assert all(ring.cached(text) is caller for caller in callers)
        assert len(queries) == 1
        await asyncio.sleep(PAST_TRUST)
        assert ring.cached(text) is None


async def test_a_key_in_use_is_asked_for_again_before_its_second_is_over(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner)
    await ring.caller(text)
    misses = 0
    for _ in range(30):
        await asyncio.sleep(0.05)
        misses += ring.cached(text) is None
    assert misses <= 3, "without asking ahead, the last third would be misses"


async def test_the_cached_path_takes_microseconds(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner)
    await ring.caller(text)
    started = time.perf_counter()
    for _ in range(10_000):
        ring.cached(text, None, None)
    assert (time.perf_counter() - started) / 10_000 < 20e-6


@pytest.mark.parametrize(
    ("table", "values", "code"),
    [
        (ApiKey, {"revoked_at": 1}, (401, "invalid_api_key")),
        (ApiKey, {"expires_at": 1}, (401, "api_key_expired")),
        (ApiKeySecret, {"expires_at": 1}, (401, "invalid_api_key")),
        (Tenant, {"is_active": False}, (403, "account_inactive")),
        (ApiKey, {"allowed_domains": ["a.example"]}, (403, "domain_not_allowed")),
    ],
)
async def test_what_changes_elsewhere_is_in_force_within_a_second(
    database: Database,
    settings: Settings,
    owner: SessionCaller,
    ring: KeyRing,
    table: Any,
    values: dict[str, Any],
    code: tuple[int, str],
) -> None:
    _, text = await make(database, settings, owner)
    await ring.caller(text)
    await change(database, owner, table, **values)
    changed = time.monotonic()
    while ring.cached(text) is not None and time.monotonic() - changed < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # in use all the time
    assert time.monotonic() - changed < PAST_TRUST
    assert await refusal(ring, text) == code


async def test_a_key_forgotten_here_is_refused_at_once(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    details, text = await make(database, settings, owner)
    await ring.caller(text)
    await revoke_key(database, owner, details.id)
    ring.forget(details.id)
    assert await refusal(ring, text) == (401, "invalid_api_key")


async def test_an_end_within_the_second_is_kept_to_the_moment(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner, expires_at=now() + 400)
    await ring.caller(text)
    await asyncio.sleep(0.45)
    assert await refusal(ring, text) == (401, "api_key_expired")


PAGES: list[tuple[dict[str, str], bool]] = [
    ({"origin": "https://example.com"}, True),
    ({"origin": "https://EXAMPLE.com:8443"}, True),
    ({"referer": "https://example.com/page?x=1"}, True),
    ({"origin": "https://app.example.org"}, True),
    ({"origin": "https://a.b.example.org"}, True),
    ({"origin": "https://example.org"}, False),
    ({"origin": "https://evil-example.org"}, False),
    ({"origin": "https://example.com.evil.net"}, False),
    ({"origin": "https://evil.net/example.com"}, False),
    ({"origin": "https://example.com@evil.net"}, False),
    ({"origin": "https://evil.net", "referer": "https://example.com/"}, False),
    ({"origin": "null"}, False),
    ({"origin": "http://[::1"}, False),
    ({}, False),
]


async def test_a_key_locked_to_domains_works_from_their_pages_only(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    _, text = await make(database, settings, owner, allowed_domains=("example.com", "*.example.org"))
    for page, allowed in PAGES:
        if allowed:
            caller = await ring.caller(text, origin=page.get("origin"), referer=page.get("referer"))
            assert ring.cached(text, page.get("origin"), page.get("referer")) is caller
        else:
            assert await refusal(ring, text, **page) == (403, "domain_not_allowed"), page


async def test_after_a_rotation_both_secrets_work_until_the_overlap_is_over(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    details, old = await make(database, settings, owner)
    secret = load_secret(settings)
    rotated, new = await rotate_key(database, secret, owner, details.id, overlap_hours=24)
    assert (rotated.id, rotated.hint[-4:]) == (details.id, new[-4:])
    assert (await ring.caller(old)).key_id == (await ring.caller(new)).key_id == details.id
    _, newest = await rotate_key(database, secret, owner, details.id, overlap_hours=0)
    await asyncio.sleep(PAST_TRUST)
    assert await refusal(ring, old) == (401, "invalid_api_key")
    assert await refusal(ring, new) == (401, "invalid_api_key")
    assert (await ring.caller(newest)).key_id == details.id


async def test_of_rotations_at_once_one_secret_is_left_without_an_end(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    details, _ = await make(database, settings, owner)
    secret = load_secret(settings)
    await asyncio.gather(
        *(rotate_key(database, secret, owner, details.id, overlap_hours=1) for _ in range(10))
    )
    async with tenant_session(database, owner.tenant_id) as session:
        ends = (await session.execute(select(ApiKeySecret.expires_at))).scalars().all()
    assert (len(ends), ends.count(None)) == (11, 1)


async def test_changed_limits_and_deletion_reach_the_caller(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    details, text = await make(database, settings, owner)
    await update_key(database, owner, details.id, {"permissions": "tts", "rate_limit_rpm": 3})
    caller = await ring.caller(text)
    assert (caller.permissions, caller.rate_limit_rpm) == ({"tts"}, 3)
    await delete_key(database, owner, details.id)
    ring.forget(details.id)
    assert await refusal(ring, text) == (401, "invalid_api_key")


async def test_last_use_of_a_key_is_written_once_a_minute(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    details, text = await make(database, settings, owner)
    for before in (None, now() - 30_000, now() - 61_000):
        await change(database, owner, ApiKey, last_used_at=before)
        ring.forget(details.id)
        await ring.caller(text)
        await notes_written()
        [found] = [key.last_used_at for key in await list_keys(database, owner)]
        assert (found != before) is (before is None or before < now() - 60_000)


async def test_a_session_key_carries_the_person_and_is_hidden(
    database: Database, settings: Settings, owner: SessionCaller, ring: KeyRing
) -> None:
    secret = load_secret(settings)
    first = await session_key(database, secret, owner)
    second = await session_key(database, secret, owner)
    callers = [await ring.caller(text) for text in (first, second)]
    assert {caller.key_id for caller in callers} == {callers[0].key_id}
    assert (callers[0].user_id, callers[0].role, callers[0].kind) == (owner.user_id, "owner", "key")
    assert await list_keys(database, owner) == []
    async with tenant_session(database, owner.tenant_id) as session:
        ends = (await session.execute(select(ApiKeySecret.expires_at))).scalars().all()
    assert all(end is not None and now() < end <= now() + 600_000 for end in ends)


async def test_a_session_key_dies_with_the_sign_in_the_person_and_the_ten_minutes(
    database: Database, settings: Settings, owner: SessionCaller
) -> None:
    secret = load_secret(settings)
    text = await session_key(database, secret, owner)

    async def code() -> str:
        ring = KeyRing(database, secret)
        try:
            await ring.caller(text)
        except ApiError as error:
            return error.code
        finally:
            await ring.close()
        return "works"

    assert await code() == "works"
    for table, broken, whole in (
        (User, {"is_active": False}, {"is_active": True}),
        (User, {"role": "agent"}, {"role": "owner"}),
        (ApiKeySecret, {"expires_at": now() - 1}, {"expires_at": now() + 60_000}),
        (Session, {"created_at": 0}, {"created_at": now()}),
    ):
        await change(database, owner, table, **broken)
        assert await code() == "invalid_api_key"
        await change(database, owner, table, **whole)
    assert await code() == "works"
    await end_session(database, tenant_id=owner.tenant_id, session_id=owner.session_id)
    assert await code() == "invalid_api_key"


async def test_without_a_database_keys_are_unavailable_and_not_invalid(settings: Settings) -> None:
    database = open_database(settings)  # no tables
    ring = KeyRing(database, load_secret(settings))
    text = new_key_text(live=True)
    assert await refusal(ring, text) == (503, "service_unavailable")
    await ring.close()
    await database.close()
