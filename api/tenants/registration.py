"""Making an account: a code by mail, then organization, owner, wallet and first sign-in in one transaction.

Every path answers alike whether the address has an account or not: the same row, the same hash, one mail.
"""

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db.engine import Database
from api.db.system import system_session
from api.errors import ApiError
from api.ledger import credit
from api.money import micro
from api.notify.mail import Mail, Mailer
from api.settings import Settings
from api.tables import EmailCode, Tenant, User
from api.tenants import codes
from api.tenants.passwords import hash_password
from api.tenants.sessions import Device, NewSession, open_session
from api.tenants.tokens import token_hash
from api.types import Milliseconds, new_id, now

PURPOSE = "register"
OPEN_FOR: Milliseconds = 3_600_000
"""How long after its last code a sign-up may ask for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a person filled in; `email` is normalized. `binding` ties the code to one browser, "" to none."""

    email: str
    password: str
    full_name: str
    phone_number: str = ""
    binding: str = ""


async def register(
    database: Database, secret: bytes, mailer: Mailer, *, registration: Registration
) -> Path | None:
    """Send a code to the address, or word of the account it already has. The mail's file without SMTP."""
    payload = {
        "full_name": registration.full_name,
        "phone_number": registration.phone_number,
        "password_hash": await hash_password(registration.password),
        "bound_to": token_hash(registration.binding),
    }
    return await _send_code(
        database, secret, mailer, email=registration.email, binding=registration.binding, payload=payload
    )


async def resend(
    database: Database, secret: bytes, mailer: Mailer, *, email: str, binding: str = ""
) -> Path | None:
    """Send another code for the newest registration of the address that is still open in this browser."""
    moment = now()
    async with system_session(database, "mail-code") as session:
        open_rows = (
            await session.execute(
                select(EmailCode)
                .where(
                    col(EmailCode.email) == email,
                    col(EmailCode.purpose) == PURPOSE,
                    col(EmailCode.used_at).is_(None),
                    col(EmailCode.created_at) > moment - OPEN_FOR,
                )
                .order_by(col(EmailCode.created_at).desc())
            )
        ).scalars()
        mine = [row.payload for row in open_rows if row.payload.get("bound_to") == token_hash(binding)]
    return await _send_code(
        database, secret, mailer, email=email, binding=binding, payload=mine[0] if mine else {}
    )


async def verify_registration(
    database: Database,
    secret: bytes,
    settings: Settings,
    *,
    email: str,
    code: str,
    binding: str = "",
    device: Device,
    by_cookie: bool,
) -> NewSession:
    """The account and its first sign-in, made once however often and at the same time a code is entered.

    Raises 400 for a wrong, used, expired or too often tried code, without saying which.
    """
    wanted = codes.hash_code(secret, email=email, purpose=PURPOSE, binding=binding, code=code)
    moment = now()
    try:
        async with system_session(database, "registration", writes=True) as session:
            row = await codes.spend_try(session, email=email, purpose=PURPOSE, code_hash=wanted, now=moment)
            if row is not None and row.payload:
                payload = dict(row.payload)
                await codes.finish(session, email=email, purpose=PURPOSE, now=moment)
                owner = await _make_account(session, settings, email=email, payload=payload, moment=moment)
                return open_session(
                    session, secret, user=owner, device=device, by_cookie=by_cookie, is_new_user=True
                )
    except IntegrityError:  # the address got an account by another way in the same moment
        raise wrong_code() from None
    raise wrong_code()


def wrong_code() -> ApiError:
    """The one answer to every code that does not work."""
    return ApiError(400, "invalid_code", "Invalid or expired code. Check the newest mail or ask for another.")


async def _send_code(
    database: Database, secret: bytes, mailer: Mailer, *, email: str, binding: str, payload: dict[str, str]
) -> Path | None:
    """Store a code and mail it. For an address with an account the row is a decoy that no code opens."""
    moment, code = now(), codes.new_code()
    async with system_session(database, "registration", writes=True) as session:
        has_account = (
            await session.execute(select(col(User.id)).where(col(User.email) == email))
        ).first() is not None
        opens = bool(payload) and not has_account
        hashed = codes.hash_code(secret, email=email, purpose=PURPOSE, binding=binding, code=code)
        row = codes.make_row(
            email=email,
            purpose=PURPOSE,
            code_hash=hashed if opens else secrets.token_hex(32),
            payload=payload if opens else {},
            now=moment,
        )
        session.add(row)
        await codes.forget_old(session, now=moment)
    if has_account:
        return await mailer.send(_account_exists_mail(email))
    return await mailer.send(_code_mail(email, code)) if opens else None


async def _make_account(
    session: AsyncSession, settings: Settings, *, email: str, payload: dict[str, str], moment: Milliseconds
) -> User:
    name = payload["full_name"]
    tenant = Tenant(
        id=new_id(),
        name=f"{name[:240]}'s workspace",
        slug=f"{_slug(name)}-{secrets.token_hex(4)}",
        plan=settings.signup_plan,
        created_at=moment,
    )
    session.add(tenant)
    await session.flush()  # the rows below refer to it
    owner = User(
        tenant_id=tenant.id,
        id=new_id(),
        email=email,
        full_name=name,
        phone_number=payload["phone_number"],
        password_hash=payload["password_hash"],
        role="owner",
        created_at=moment,
        updated_at=moment,
    )
    session.add(owner)
    await session.flush()
    if settings.signup_bonus_credits:
        await credit(
            session,
            tenant_id=tenant.id,
            amount=micro(settings.signup_bonus_credits),
            part="promo",
            kind="signup_bonus",
            source="promotions",
            reference=f"signup:{owner.id}",
        )
    return owner


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "workspace"


def _code_mail(email: str, code: str) -> Mail:
    return Mail(
        to=email,
        subject=f"{code} is your CallMissed code",
        text=(
            f"Your code is {code}\n\n"
            "Enter it on the sign-up page to make your account. It works once, for 15 minutes.\n\n"
            "If you did not sign up, do nothing and give the code to nobody: nothing happens without it.\n"
        ),
    )


def _account_exists_mail(email: str) -> Mail:
    return Mail(
        to=email,
        subject="You already have a CallMissed account",
        text=(
            "Somebody, probably you, tried to sign up with this address. It already has an account,\n"
            "so nothing was changed. Sign in with your password instead.\n\n"
            "If it was not you, do nothing.\n"
        ),
    )
