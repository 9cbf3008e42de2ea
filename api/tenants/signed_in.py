"""Who a session belongs to, looked up for every call and every dashboard event; remembered for a second.

What is remembered is never older than that: revoking a session, changing a role and deactivating a person
or an organization all take effect within it, in every process.
"""

import time
from dataclasses import dataclass
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlmodel import col

from api.db.engine import Database
from api.db.session import tenant_session
from api.db.system import system_session
from api.tables import Session, Tenant, User
from api.tenants.last_used import MINUTE, note_use
from api.tenants.plans import requests_per_minute
from api.tenants.tokens import not_signed_in, read_access_token
from api.types import DAY, Caller, Milliseconds, Role, now

REMEMBERED = 1.0
"""Seconds."""

IDLE: Milliseconds = DAY
LONGEST: Milliseconds = 30 * DAY
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCaller(Caller):
    """A signed-in person: the `Caller`, and the sign-in it comes from."""

    session_id: UUID


@dataclass(frozen=True, slots=True)
class _Found:
    caller: SessionCaller
    until: float


_found: WeakKeyDictionary[AsyncEngine, dict[str, _Found]] = WeakKeyDictionary()


async def caller_of_access_token(database: Database, secret: bytes, token: str) -> SessionCaller:
    """The person an access token speaks for. Raises 401, `token_expired` when that is the reason."""
    claims = read_access_token(secret, token, now=now())
    name = f"access:{claims.tenant_id}:{claims.session_id}"
    known = _remembered(database, name)
    if known is None:
        asked = time.monotonic()
        async with tenant_session(database, claims.tenant_id) as session:
            known = await _person(database, session, col(Session.id) == claims.session_id, idle=None)
        if known is None:
            raise not_signed_in()
        _remember(database, name, known, asked)
    if known.user_id != claims.user_id:
        raise not_signed_in()
    return known


async def caller_of_cookie(database: Database, cookie_hash: str) -> SessionCaller | None:
    """The person of the session whose cookie token has this SHA-256 (hex); None when it has ended."""
    name = f"cookie:{cookie_hash}"
    known = _remembered(database, name)
    if known is None:
        asked = time.monotonic()
        async with system_session(database, "sign-in") as session:
            known = await _person(database, session, col(Session.cookie_hash) == cookie_hash, idle=IDLE)
        if known is not None:
            _remember(database, name, known, asked)
    return known


def forget(database: Database, session_id: UUID) -> None:
    """Look the session up again at its next use."""
    known = _found.get(database.engine, {})
    for name in [name for name, found in known.items() if found.caller.session_id == session_id]:
        del known[name]


def forget_all(database: Database) -> None:
    """Look every session up again at its next use."""
    _found.pop(database.engine, None)


async def _person(
    database: Database, session: AsyncSession, criterion: ColumnElement[bool], *, idle: Milliseconds | None
) -> SessionCaller | None:
    found = (
        await session.execute(
            select(Session, User, Tenant)
            .join(User, (col(User.id) == Session.user_id) & (col(User.tenant_id) == Session.tenant_id))
            .join(Tenant, col(Tenant.id) == Session.tenant_id)
            .where(criterion)
        )
    ).first()
    if found is None:
        return None
    row, user, tenant = found
    moment = now()
    if row.revoked_at is not None or not user.is_active or not tenant.is_active:
        return None
    if moment >= row.created_at + LONGEST or (idle and moment >= row.last_used_at + idle):
        return None
    if moment >= row.last_used_at + MINUTE:
        note_use(database, Session, tenant_id=row.tenant_id, row_id=row.id, moment=moment)
    return SessionCaller(
        tenant_id=tenant.id,
        kind="session",
        plan=tenant.plan,
        user_id=user.id,
        role=as_role(user.role),
        session_id=row.id,
        rate_limit_rpm=requests_per_minute(tenant.plan),
    )


def as_role(name: str) -> Role:
    """The role of that name; the least of them for one that is not known."""
    return name if name in ("owner", "admin", "agent") else "agent"  # type: ignore[return-value]


def _remembered(database: Database, name: str) -> SessionCaller | None:
    found = _found.get(database.engine, {}).get(name)
    return found.caller if found is not None and time.monotonic() < found.until else None


def _remember(database: Database, name: str, caller: SessionCaller, asked: float) -> None:
    known = _found.setdefault(database.engine, {})
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[name] = _Found(caller, asked + REMEMBERED)
