"""Six-digit codes sent by mail: made, hashed, spent.

A code works once, for 15 minutes, for at most five tries, and only together with the binding it was made
for: what the browser that asked keeps in a cookie, or nothing. Whoever asks for a code in another's name
cannot have it entered into that person's own sign-up.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.tables import EmailCode
from api.tenants.secrets import derive
from api.types import DAY, Milliseconds, new_id

LIFETIME: Milliseconds = 15 * 60_000
TRIES = 5


def new_code() -> str:
    """Six random digits."""
    return f"{secrets.randbelow(1_000_000):06d}"


def hash_code(secret: bytes, *, email: str, purpose: str, binding: str, code: str) -> str:
    """What is stored of a code: an HMAC over it and everything it is good for."""
    text = "\n".join((email, purpose, binding, code))
    return hmac.new(derive(secret, b"email-codes"), text.encode(), hashlib.sha256).hexdigest()


async def spend_try(
    session: AsyncSession, *, email: str, purpose: str, code_hash: str, now: Milliseconds
) -> EmailCode | None:
    """Count one try on every live code of the address; the one that matches, None when none does.

    The count is part of the caller's transaction and must be committed also when nothing matched.
    """
    statement = (
        update(EmailCode)
        .where(
            col(EmailCode.email) == email,
            col(EmailCode.purpose) == purpose,
            col(EmailCode.used_at).is_(None),
            col(EmailCode.expires_at) > now,
            col(EmailCode.attempts) < TRIES,
        )
        .values(attempts=col(EmailCode.attempts) + 1)
        .returning(EmailCode)
    )
    rows: Sequence[EmailCode] = (await session.execute(statement)).scalars().all()
    matches = [row for row in rows if hmac.compare_digest(row.code_hash, code_hash)]
    return matches[0] if matches else None


async def finish(session: AsyncSession, *, email: str, purpose: str, now: Milliseconds) -> None:
    """End every code of the address for the purpose, and forget what they carried."""
    await session.execute(
        update(EmailCode)
        .where(col(EmailCode.email) == email, col(EmailCode.purpose) == purpose)
        .values(used_at=now, payload={})
    )


def make_row(
    *, email: str, purpose: str, code_hash: str, payload: dict[str, str], now: Milliseconds
) -> EmailCode:
    """A code that can be spent from now on."""
    return EmailCode(
        id=new_id(),
        email=email,
        purpose=purpose,
        code_hash=code_hash,
        payload=payload,
        created_at=now,
        expires_at=now + LIFETIME,
    )


async def forget_old(session: AsyncSession, *, now: Milliseconds) -> None:
    """Delete the codes that ended a day ago or earlier."""
    await session.execute(delete(EmailCode).where(col(EmailCode.expires_at) < now - DAY))
