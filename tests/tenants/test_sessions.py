import asyncio
import statistics
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy import select, update

from api.db.engine import Database
from api.db.session import tenant_session
from api.errors import ApiError
from api.settings import Settings
from api.tables import Session, Tenant, User
from api.tenants.last_used import notes_written
from api.tenants.secrets import derive, load_secret
from api.tenants.sessions import Device, NewSession, end_session, refresh, sign_in, sign_out
from api.tenants.signed_in import SessionCaller, caller_of_access_token, caller_of_cookie
from api.tenants.tokens import make_refresh_token, token_hash
from api.types import DAY, new_id, now
from tests.tenants.site import PASSWORD, make_person

ADDRESS = "asha@example.com"


async def enter(
    database: Database, settings: Settings, *, password: str = PASSWORD, by_cookie: bool = False
) -> NewSession:
    return await sign_in(
        database,
        load_secret(settings),
        email=ADDRESS,
        password=password,
        device=Device(ip="127.0.0.1", user_agent="test"),
        by_cookie=by_cookie,
    )


async def rotate(database: Database, settings: Settings, made: NewSession) -> NewSession:
    assert made.refresh_token is not None
    return await refresh(database, load_secret(settings), refresh_token=made.refresh_token)


async def change(database: Database, caller: SessionCaller, table: Any, **values: Any) -> None:
    """Change rows of the organization behind the product's back, as another process would."""
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        await session.execute(update(table).values(**values))


async def live_sessions(database: Database, caller: SessionCaller) -> int:
    async with tenant_session(database, caller.tenant_id) as session:
        rows = await session.execute(select(Session).where(Session.revoked_at.is_(None)))  # type: ignore[union-attr]
        return len(rows.all())


async def refused(database: Database, settings: Settings, made: NewSession) -> str:
    with pytest.raises(ApiError) as refusal:
        await caller_of_access_token(database, load_secret(settings), str(made.access_token))
    assert refusal.value.status == 401
    return refusal.value.code


async def test_an_access_token_speaks_for_its_person(database: Database, settings: Settings) -> None:
    owner, _ = await make_person(database, settings)
    made = await enter(database, settings)
    caller = await caller_of_access_token(database, load_secret(settings), str(made.access_token))
    assert (caller.user_id, caller.tenant_id, caller.kind) == (owner.user_id, owner.tenant_id, "session")
    assert (caller.role, caller.rate_limit_rpm) == ("owner", 10_000)
    assert caller.session_id != owner.session_id


async def test_an_unknown_address_and_a_wrong_password_get_one_answer_in_one_time(
    database: Database, settings: Settings
) -> None:
    await make_person(database, settings)
    secret, times = load_secret(settings), {ADDRESS: [0.0], "nobody@example.com": [0.0]}
    answers = set()
    for _ in range(15):
        for address, taken in times.items():
            started = time.process_time()
            with pytest.raises(ApiError) as refusal:
                await sign_in(
                    database, secret, email=address, password="wrong", device=Device(), by_cookie=False
                )
            taken.append(time.process_time() - started)
            answers.add((refusal.value.status, refusal.value.code, refusal.value.message))
    assert answers == {(401, "invalid_credentials", "Incorrect email or password.")}
    known, unknown = (statistics.median(taken[1:]) for taken in times.values())
    assert abs(known - unknown) < 0.25 * max(known, unknown), (known, unknown)


async def test_a_deactivated_person_is_told_only_with_the_right_password(
    database: Database, settings: Settings
) -> None:
    caller, _ = await make_person(database, settings)
    await change(database, caller, User, is_active=False)
    with pytest.raises(ApiError) as right:
        await enter(database, settings)
    assert (right.value.status, right.value.code) == (403, "account_inactive")
    with pytest.raises(ApiError) as wrong:
        await enter(database, settings, password="wrong")
    assert wrong.value.status == 401


async def test_a_refresh_token_works_once_and_the_new_one_after_it(
    database: Database, settings: Settings
) -> None:
    caller, made = await make_person(database, settings)
    second = await rotate(database, settings, made)
    third = await rotate(database, settings, second)
    again = await caller_of_access_token(database, load_secret(settings), str(third.access_token))
    assert again.session_id == caller.session_id
    assert len({made.refresh_token, second.refresh_token, third.refresh_token}) == 3


@pytest.mark.parametrize("rotations", [1, 3])
async def test_a_spent_refresh_token_ends_every_session_however_old_it_is(
    database: Database, settings: Settings, rotations: int
) -> None:
    caller, made = await make_person(database, settings)
    elsewhere = await enter(database, settings)
    newest = made
    for _ in range(rotations):
        newest = await rotate(database, settings, newest)
    with pytest.raises(ApiError, match="Session has been revoked"):
        await rotate(database, settings, made)
    assert await live_sessions(database, caller) == 0
    for carried in (newest, elsewhere):
        assert await refused(database, settings, carried) == "invalid_token"
        with pytest.raises(ApiError, match="Session has been revoked"):
            await rotate(database, settings, carried)


async def test_of_two_refreshes_with_one_token_at_once_at_most_one_succeeds(
    database: Database, settings: Settings
) -> None:
    caller, made = await make_person(database, settings)
    results = await asyncio.gather(
        *(rotate(database, settings, made) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, NewSession) for result in results) == 1
    assert await live_sessions(database, caller) == 0


async def test_a_forged_refresh_token_ends_nothing(database: Database, settings: Settings) -> None:
    caller, _ = await make_person(database, settings)
    forged = make_refresh_token(b"another secret of enough characters", caller.session_id)
    for token in (forged, "cmr_", "cmr_" + "A" * 75, "cmr_é", "x" * 75):
        with pytest.raises(ApiError, match="Invalid refresh token"):
            await refresh(database, load_secret(settings), refresh_token=token)
    assert await live_sessions(database, caller) == 1


async def test_refreshing_slides_seven_days_up_to_thirty(database: Database, settings: Settings) -> None:
    caller, made = await make_person(database, settings)
    await change(database, caller, Session, created_at=now() - 29 * DAY)
    newer = await rotate(database, settings, made)
    async with tenant_session(database, caller.tenant_id) as session:
        row = (await session.execute(select(Session))).scalar_one()
    assert row.refresh_expires_at == row.created_at + 30 * DAY
    await change(database, caller, Session, refresh_expires_at=now() - 1)
    with pytest.raises(ApiError, match="Invalid refresh token"):
        await rotate(database, settings, newer)


async def test_a_session_lasts_thirty_days_at_most(database: Database, settings: Settings) -> None:
    caller, made = await make_person(database, settings)
    await change(database, caller, Session, created_at=now() - 30 * DAY)
    await asyncio.sleep(1.05)
    assert await refused(database, settings, made) == "invalid_token"


async def test_a_cookie_ends_after_twenty_four_idle_hours(database: Database, settings: Settings) -> None:
    caller, _ = await make_person(database, settings)
    hashed = token_hash(str((await enter(database, settings, by_cookie=True)).cookie_token))
    await change(database, caller, Session, last_used_at=now() - DAY + 5_000)
    assert await caller_of_cookie(database, hashed) is not None
    await notes_written()
    await change(database, caller, Session, last_used_at=now() - DAY)
    await asyncio.sleep(1.05)
    assert await caller_of_cookie(database, hashed) is None


async def test_a_cookie_session_carries_no_token_and_is_stored_as_a_hash(
    database: Database, settings: Settings
) -> None:
    caller, _ = await make_person(database, settings)
    made = await enter(database, settings, by_cookie=True)
    assert (made.access_token, made.refresh_token) == (None, None)
    token = str(made.cookie_token)
    assert len(token) == 43
    found = await caller_of_cookie(database, token_hash(token))
    assert found is not None
    assert found.user_id == caller.user_id
    assert await caller_of_cookie(database, token) is None
    async with tenant_session(database, caller.tenant_id) as session:
        hashes = (await session.execute(select(Session.cookie_hash))).scalars().all()
    assert token not in hashes


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (Session, {"revoked_at": 1}),
        (User, {"is_active": False}),
        (Tenant, {"is_active": False}),
    ],
)
async def test_revoking_and_deactivating_elsewhere_take_effect_within_a_second(
    database: Database, settings: Settings, table: Any, values: dict[str, Any]
) -> None:
    caller, made = await make_person(database, settings)
    hashed = token_hash(str((await enter(database, settings, by_cookie=True)).cookie_token))
    assert await caller_of_cookie(database, hashed) is not None
    await change(database, caller, table, **values)
    await asyncio.sleep(1.05)
    assert await caller_of_cookie(database, hashed) is None
    assert await refused(database, settings, made) == "invalid_token"


async def test_a_changed_role_is_in_force_within_a_second(database: Database, settings: Settings) -> None:
    caller, made = await make_person(database, settings)
    await change(database, caller, User, role="agent")
    await asyncio.sleep(1.05)
    again = await caller_of_access_token(database, load_secret(settings), str(made.access_token))
    assert again.role == "agent"


async def test_a_session_ended_here_is_over_at_once(database: Database, settings: Settings) -> None:
    caller, made = await make_person(database, settings)
    await end_session(database, tenant_id=caller.tenant_id, session_id=caller.session_id)
    assert await refused(database, settings, made) == "invalid_token"
    with pytest.raises(ApiError, match="Session has been revoked"):
        await rotate(database, settings, made)


async def test_signing_out_ends_the_one_session_and_may_be_repeated(
    database: Database, settings: Settings
) -> None:
    caller, made = await make_person(database, settings)
    await enter(database, settings)
    for _ in range(2):
        await sign_out(database, load_secret(settings), refresh_token=made.refresh_token)
    await sign_out(database, load_secret(settings), refresh_token="cmr_nothing", cookie_token="nothing")
    assert await live_sessions(database, caller) == 1
    assert await refused(database, settings, made) == "invalid_token"


async def test_last_use_is_written_once_a_minute(database: Database, settings: Settings) -> None:
    caller, made = await make_person(database, settings)
    for age, written in ((50_000, False), (61_000, True)):
        used = now() - age
        await change(database, caller, Session, last_used_at=used)
        await asyncio.sleep(1.05)
        await caller_of_access_token(database, load_secret(settings), str(made.access_token))
        await notes_written()
        async with tenant_session(database, caller.tenant_id) as session:
            found = (await session.execute(select(Session.last_used_at))).scalar_one()
        assert (found > used) is written


async def test_tokens_that_are_forged_expired_or_foreign_are_refused(
    database: Database, settings: Settings
) -> None:
    caller, made = await make_person(database, settings)
    key = OctKey.import_key(derive(load_secret(settings), b"access-tokens"))
    claims = {"sub": str(caller.user_id), "tid": str(caller.tenant_id), "sid": str(caller.session_id)}
    soon, past = now() // 1000 + 60, now() // 1000 - 1
    head, body, seal = str(made.access_token).split(".")
    for token, code in (
        (jwt.encode({"alg": "HS256"}, {**claims, "exp": past}, key), "token_expired"),
        (jwt.encode({"alg": "HS256"}, claims, key), "invalid_token"),
        (jwt.encode({"alg": "HS256"}, {**claims, "exp": soon, "tid": "x"}, key), "invalid_token"),
        (jwt.encode({"alg": "HS256"}, {**claims, "exp": soon, "sub": str(new_id())}, key), "invalid_token"),
        (jwt.encode({"alg": "HS256"}, {**claims, "exp": soon}, OctKey.import_key("k" * 32)), "invalid_token"),
        (jwt.encode({"alg": "HS512"}, {**claims, "exp": soon}, key, algorithms=["HS512"]), "invalid_token"),
        (f"eyJhbGciOiJub25lIn0.{body}.", "invalid_token"),
        (f"{head}.{body}.{seal[:-4]}AAAA", "invalid_token"),
        ("\ud800.é.x", "invalid_token"),
    ):
        assert await refused(database, settings, NewSession(email="", access_token=token)) == code
    _, foreign = await make_person(database, settings, address="ben@example.com")
    crossed = {**claims, "exp": soon, "tid": str((await person_of(database, settings, foreign)).tenant_id)}
    token = jwt.encode({"alg": "HS256"}, crossed, key)
    # What is remembered of the session must not be found under another organization's name either.
    await caller_of_access_token(database, load_secret(settings), str(made.access_token))
    assert await refused(database, settings, NewSession(email="", access_token=token)) == "invalid_token"


async def person_of(database: Database, settings: Settings, made: NewSession) -> SessionCaller:
    return await caller_of_access_token(database, load_secret(settings), str(made.access_token))
