"""Sign-ins: one row per device, carried by an access token with a rotating refresh token, or by a cookie.

A row ends when it is revoked, 30 days after it began, after 7 days without a refresh (tokens), or after 24
idle hours (cookie). Deactivating the person or the organization ends all of theirs.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db.engine import Database
from api.db.session import tenant_session
from api.db.system import system_session
from api.errors import ApiError, forbidden
from api.tables import Session, Tenant, User
from api.tenants.passwords import verify_password
from api.tenants.signed_in import forget, forget_all
from api.tenants.tokens import (
    AccessClaims,
    make_access_token,
    make_cookie_token,
    make_refresh_token,
    session_of_refresh_token,
    token_hash,
)
from api.types import DAY, Milliseconds, new_id, now

REFRESH_LIFETIME: Milliseconds = 7 * DAY
LONGEST: Milliseconds = 30 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What signed in, as far as it says."""

    ip: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A sign-in and what carries it: two tokens, or one cookie. Shown to its person only, never logged."""

    email: str
    is_new_user: bool = False
    access_token: str | None = None
    refresh_token: str | None = None
    cookie_token: str | None = None


async def sign_in(
    database: Database, secret: bytes, *, email: str, password: str, device: Device, by_cookie: bool
) -> NewSession:
    """A new session of the person.

    Raises the same 401 after the same time for an unknown address and a wrong password; 403
    `account_inactive` only to who knows the password.
    """
    async with system_session(database, "sign-in") as session:
        user = (await session.execute(select(User).where(col(User.email) == email))).scalar_one_or_none()
    if not await verify_password(password, user.password_hash if user else None) or user is None:
        raise ApiError(401, "invalid_credentials", "Incorrect email or password.")
    async with tenant_session(database, user.tenant_id, writes=True) as session:
        is_open = (await session.execute(select(col(Tenant.is_active)))).scalar_one_or_none()
        if not user.is_active or not is_open:
            raise forbidden("account_inactive", "This account is deactivated.")
        return open_session(session, secret, user=user, device=device, by_cookie=by_cookie)


def open_session(
    session: AsyncSession,
    secret: bytes,
    *,
    user: User,
    device: Device,
    by_cookie: bool,
    is_new_user: bool = False,
) -> NewSession:
    """Add a session of `user` to the caller's transaction."""
    moment, session_id = now(), new_id()
    refresh_token = make_refresh_token(secret, session_id)
    cookie_token = make_cookie_token() if by_cookie else None
    session.add(
        Session(
            tenant_id=user.tenant_id,
            id=session_id,
            user_id=user.id,
            refresh_hash=token_hash(refresh_token),
            cookie_hash=token_hash(cookie_token) if cookie_token else None,
            user_agent=device.user_agent[:255],
            ip=device.ip[:45],
            created_at=moment,
            last_used_at=moment,
            # A browser has no refresh token: its end is the cookie's.
            refresh_expires_at=moment + (LONGEST if by_cookie else REFRESH_LIFETIME),
        )
    )
    if by_cookie:
        return NewSession(email=user.email, is_new_user=is_new_user, cookie_token=cookie_token)
    claims = AccessClaims(user_id=user.id, tenant_id=user.tenant_id, session_id=session_id)
    return NewSession(
        email=user.email,
        is_new_user=is_new_user,
        access_token=make_access_token(secret, claims, now=moment),
        refresh_token=refresh_token,
    )


async def refresh(database: Database, secret: bytes, *, refresh_token: str) -> NewSession:
    """New tokens for a refresh token, which is spent by this.

    Raises 401. A token of ours that was spent before was stolen from one of its two holders: every session
    of the person ends.
    """
    session_id = session_of_refresh_token(secret, refresh_token)
    if session_id is None:
        raise _refused("Invalid refresh token")
    async with system_session(database, "sign-in") as session:
        found = (
            await session.execute(
                select(Session, User)
                .join(User, col(Session.user_id) == col(User.id))
                .where(col(Session.id) == session_id)
            )
        ).first()
    if found is None:
        raise _refused("Session not found")
    row, user = found
    if row.revoked_at is not None:
        raise _refused("Session has been revoked")
    if row.cookie_hash is not None or row.refresh_expires_at <= now():
        raise _refused("Invalid refresh token")
    if not user.is_active:
        raise _refused("User not found")
    return await _rotate(database, secret, row=row, user=user, spent_hash=token_hash(refresh_token))


async def _rotate(
    database: Database, secret: bytes, *, row: Session, user: User, spent_hash: str
) -> NewSession:
    moment = now()
    fresh = make_refresh_token(secret, row.id)
    async with tenant_session(database, row.tenant_id, writes=True) as session:
        rotated = await session.execute(
            update(Session)
            .where(
                col(Session.id) == row.id,
                col(Session.refresh_hash) == spent_hash,
                col(Session.revoked_at).is_(None),
            )
            .values(
                refresh_hash=token_hash(fresh),
                replaced_refresh_hash=spent_hash,
                last_used_at=moment,
                refresh_expires_at=min(moment + REFRESH_LIFETIME, row.created_at + LONGEST),
            )
            .returning(col(Session.id))
        )
        is_replay = rotated.first() is None
        if is_replay:
            await revoke_all(session, user_id=row.user_id, now=moment)
    if is_replay:
        forget_all(database)
        raise _refused("Session has been revoked")
    claims = AccessClaims(user_id=row.user_id, tenant_id=row.tenant_id, session_id=row.id)
    return NewSession(
        email=user.email,
        access_token=make_access_token(secret, claims, now=moment),
        refresh_token=fresh,
    )


async def revoke_all(session: AsyncSession, *, user_id: UUID, now: Milliseconds) -> None:
    """End every session of the person, in the caller's transaction."""
    await session.execute(
        update(Session)
        .where(col(Session.user_id) == user_id, col(Session.revoked_at).is_(None))
        .values(revoked_at=now)
    )


async def sign_out(
    database: Database, secret: bytes, *, refresh_token: str | None = None, cookie_token: str | None = None
) -> None:
    """End the session that either credential belongs to; nothing happens when there is none."""
    wanted = []
    if cookie_token:
        wanted.append(col(Session.cookie_hash) == token_hash(cookie_token))
    if refresh_token and session_of_refresh_token(secret, refresh_token):
        wanted.append(col(Session.refresh_hash) == token_hash(refresh_token))
    for criterion in wanted:
        async with system_session(database, "sign-in") as session:
            found = (
                await session.execute(select(col(Session.tenant_id), col(Session.id)).where(criterion))
            ).first()
        if found is not None:
            await end_session(database, tenant_id=found[0], session_id=found[1])


async def end_session(database: Database, *, tenant_id: UUID, session_id: UUID) -> None:
    """Revoke one session of the tenant, at once in this process and within a second in the others."""
    async with tenant_session(database, tenant_id, writes=True) as session:
        await session.execute(
            update(Session)
            .where(col(Session.id) == session_id, col(Session.revoked_at).is_(None))
            .values(revoked_at=now())
        )
    forget(database, session_id)


def _refused(detail: str) -> ApiError:
    return ApiError(401, "invalid_refresh_token", detail)
