import asyncio
import hashlib
import statistics
import time

import pytest
from sqlalchemy import func, select, update

from api.db.engine import Database
from api.db.session import tenant_session
from api.db.system import system_session
from api.errors import ApiError
from api.ledger import balance
from api.notify.mail import open_mailer
from api.settings import Settings
from api.tables import EmailCode, Session, Tenant, Transfer, User
from api.tenants.registration import Registration, register, resend, verify_registration
from api.tenants.secrets import load_secret
from api.tenants.sessions import Device, NewSession
from api.types import now
from tests.tenants.site import PASSWORD, mails, make_person, newest_code

ADDRESS = "asha@example.com"


async def ask(database: Database, settings: Settings, *, binding: str = "", name: str = "Asha Rao") -> str:
    """Register; the code that came."""
    wish = Registration(email=ADDRESS, password=PASSWORD, full_name=name, binding=binding)
    await register(database, load_secret(settings), open_mailer(settings), registration=wish)
    return newest_code(settings)


async def enter(database: Database, settings: Settings, code: str, *, binding: str = "") -> NewSession:
    return await verify_registration(
        database,
        load_secret(settings),
        settings,
        email=ADDRESS,
        code=code,
        binding=binding,
        device=Device(),
        by_cookie=False,
    )


async def outcome(database: Database, settings: Settings, code: str, *, binding: str = "") -> str:
    try:
        await enter(database, settings, code, binding=binding)
        return "made"
    except ApiError as error:
        return error.code


async def count(database: Database, table: type) -> int:
    async with system_session(database, "doctor") as session:
        return (await session.execute(select(func.count()).select_from(table))).scalar_one()


async def code_rows(database: Database) -> list[EmailCode]:
    async with system_session(database, "mail-code") as session:
        return list((await session.execute(select(EmailCode).order_by(EmailCode.id))).scalars())


async def test_signing_up_makes_organization_owner_session_and_one_bonus_in_the_books(
    database: Database, settings: Settings
) -> None:
    caller, made = await make_person(database, settings)
    assert (caller.role, caller.plan, made.is_new_user) == ("owner", "self_hosted", True)
    async with tenant_session(database, caller.tenant_id) as session:
        owner = (await session.execute(select(User))).scalar_one()
        assert (owner.id, owner.email, owner.full_name) == (caller.user_id, ADDRESS, "Asha Rao")
        transfer = (await session.execute(select(Transfer))).scalar_one()
        assert (transfer.kind, transfer.debit, transfer.credit) == ("signup_bonus", "promotions", "wallet")
        assert (transfer.amount, transfer.promo) == (1_000_000_000, 1_000_000_000)
        assert transfer.reference == f"signup:{owner.id}"
        funds = await balance(session)
        assert (funds.promo, funds.total, funds.available) == (1_000_000_000,) * 3


async def test_fifty_verifications_at_once_make_one_organization_with_one_bonus(
    database: Database, settings: Settings
) -> None:
    code = await ask(database, settings)
    outcomes = await asyncio.gather(*(outcome(database, settings, code) for _ in range(50)))
    assert sorted(outcomes) == ["invalid_code"] * 49 + ["made"]
    for table in (Tenant, User, Session, Transfer):
        assert await count(database, table) == 1


async def test_two_codes_of_one_address_entered_at_once_make_one_account(
    database: Database, settings: Settings
) -> None:
    first, second = await ask(database, settings), await ask(database, settings)
    outcomes = await asyncio.gather(*(outcome(database, settings, code) for code in (first, second)))
    assert sorted(outcomes) == ["invalid_code", "made"]
    assert await count(database, User) == 1


async def test_a_sign_up_that_fails_half_way_leaves_nothing_behind(
    database: Database, settings: Settings
) -> None:
    code = await ask(database, settings)
    beyond = settings.model_copy(update={"signup_bonus_credits": 10**14})  # more than a column holds
    with pytest.raises(Exception, match=r"(?i)int|range"):
        await enter(database, beyond, code)
    for table in (Tenant, User, Session, Transfer):
        assert await count(database, table) == 0
    assert await outcome(database, settings, code) == "made"


async def test_of_a_hundred_guesses_at_once_five_count_and_the_code_is_dead(
    database: Database, settings: Settings
) -> None:
    code = await ask(database, settings)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    outcomes = await asyncio.gather(*(outcome(database, settings, wrong) for _ in range(100)))
    assert set(outcomes) == {"invalid_code"}
    assert [row.attempts for row in await code_rows(database)] == [5]
    assert await outcome(database, settings, code) == "invalid_code"


async def test_a_code_works_for_fifteen_minutes(database: Database, settings: Settings) -> None:
    code = await ask(database, settings)
    [row] = await code_rows(database)
    assert row.expires_at - row.created_at == 15 * 60_000
    async with system_session(database, "mail-code", writes=True) as session:
        await session.execute(update(EmailCode).values(expires_at=row.created_at - 1))
    assert await outcome(database, settings, code) == "invalid_code"


async def test_neither_code_nor_password_is_stored_and_a_spent_code_carries_nothing(
    database: Database, settings: Settings
) -> None:
    code = await ask(database, settings)
    [row] = await code_rows(database)
    everything = f"{row.code_hash} {row.payload}"
    assert PASSWORD not in everything
    assert code not in row.code_hash
    assert row.code_hash != hashlib.sha256(code.encode()).hexdigest()
    assert row.payload["password_hash"].startswith("$argon2id$")
    await enter(database, settings, code)
    [row] = await code_rows(database)
    assert (row.payload, row.used_at is not None) == ({}, True)
    assert await outcome(database, settings, code) == "invalid_code"


async def test_a_code_asked_for_by_a_stranger_does_not_work_in_the_owners_browser(
    database: Database, settings: Settings
) -> None:
    mine = await ask(database, settings, binding="my browser", name="Asha")
    strangers = await ask(database, settings, name="Mallory")
    assert await outcome(database, settings, strangers, binding="my browser") == "invalid_code"
    assert await outcome(database, settings, mine, binding="another browser") == "invalid_code"
    assert await outcome(database, settings, mine, binding="my browser") == "made"
    async with system_session(database, "doctor") as session:
        assert (await session.execute(select(User.full_name))).scalars().all() == ["Asha"]


async def test_a_resent_code_carries_on_the_sign_up_of_the_same_browser(
    database: Database, settings: Settings
) -> None:
    secret, mailer = load_secret(settings), open_mailer(settings)
    await ask(database, settings, binding="my browser", name="Asha")
    await ask(database, settings, name="Mallory")
    await resend(database, secret, mailer, email=ADDRESS, binding="my browser")
    assert await outcome(database, settings, newest_code(settings), binding="my browser") == "made"
    async with system_session(database, "doctor") as session:
        assert (await session.execute(select(User.full_name))).scalars().all() == ["Asha"]


async def test_a_sign_up_may_ask_for_another_code_for_an_hour(database: Database, settings: Settings) -> None:
    secret, mailer = load_secret(settings), open_mailer(settings)
    late = await ask(database, settings)
    for age, is_sent in ((30 * 60_000, True), (61 * 60_000, False)):
        async with system_session(database, "mail-code", writes=True) as session:
            await session.execute(update(EmailCode).values(created_at=now() - age, expires_at=now() - 1))
        assert await outcome(database, settings, late) == "invalid_code"
        sent = await resend(database, secret, mailer, email=ADDRESS)
        assert (sent is not None) is is_sent
    assert len(mails(settings)) == 2


async def test_no_mail_goes_to_an_address_that_never_signed_up(
    database: Database, settings: Settings
) -> None:
    secret, mailer = load_secret(settings), open_mailer(settings)
    assert await resend(database, secret, mailer, email="nobody@example.com") is None
    assert mails(settings) == []


async def test_the_owner_of_a_known_address_is_told_and_nothing_else_changes(
    database: Database, settings: Settings
) -> None:
    await make_person(database, settings)
    wish = Registration(email=ADDRESS, password="another password", full_name="Mallory")
    await register(database, load_secret(settings), open_mailer(settings), registration=wish)
    newest = mails(settings)[-1]
    assert f"To: {ADDRESS}" in newest
    assert "already has an account" in newest
    assert not any(character.isdigit() for character in newest.split("\n\n", 1)[1])
    assert await count(database, User) == 1
    rows = await code_rows(database)
    assert len(rows) == 2, "a known address leaves the same trace as a new one"
    assert rows[-1].payload == {}, "and that trace opens nothing"


async def test_registering_takes_as_long_for_a_known_address_as_for_a_new_one(
    database: Database, settings: Settings
) -> None:
    await make_person(database, settings)
    secret, mailer = load_secret(settings), open_mailer(settings)
    times: dict[str, list[float]] = {"known": [], "new": []}
    for turn in range(12):
        for kind, address in (("known", ADDRESS), ("new", f"new{turn}@example.com")):
            wish = Registration(email=address, password=PASSWORD, full_name="Asha")
            started = time.process_time()
            await register(database, secret, mailer, registration=wish)
            times[kind].append(time.process_time() - started)
    known, new = statistics.median(times["known"]), statistics.median(times["new"])
    assert abs(known - new) < 0.25 * max(known, new), (known, new)


async def test_codes_are_forgotten_a_day_after_their_end(database: Database, settings: Settings) -> None:
    await ask(database, settings)
    async with system_session(database, "mail-code", writes=True) as session:
        await session.execute(update(EmailCode).values(expires_at=EmailCode.expires_at - 2 * 86_400_000))
    await ask(database, settings)
    assert len(await code_rows(database)) == 1
