"""From the text of a key to a `Caller`, in microseconds once it is known.

What is known is trusted for at most a second from the moment it was asked for, so that revocation, rotation,
expiry, deactivation and changed limits take effect within it. Keys in use are asked for again ahead of time,
in the background. Memory holds fingerprints under a key of this process, never the keys themselves.
"""

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from api.db.engine import Database
from api.db.system import system_session
from api.errors import ApiError, api_key_expired, forbidden, invalid_api_key, unavailable
from api.tables import ApiKey, ApiKeySecret, Budget, Session, Tenant, User
from api.tenants.domains import is_allowed
from api.tenants.key_text import is_well_formed, key_hash
from api.tenants.last_used import MINUTE, note_use, notes_written
from api.tenants.permissions import split
from api.tenants.plans import requests_per_minute
from api.tenants.secrets import derive
from api.tenants.signed_in import LONGEST, as_role
from api.types import Caller, Milliseconds, now

TRUSTED = 1.0
"""Seconds for which an answer of the database is trusted."""

AHEAD = 0.5
"""Age in seconds from which a key in use is asked for again in the background."""

_MOST_KNOWN = 10_000
_MOST_REFUSED = 10_000

Refusal = Callable[[], ApiError]


@dataclass(slots=True)
class _Known:
    caller: Caller
    domains: frozenset[str] | None
    """None: any page, and callers that are no page."""
    secret_hash: str
    until: float
    ask_again: float


class KeyRing:
    """The keys this process has seen lately."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._pepper = derive(secret, b"api-keys")
        self._fingerprint = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._known: dict[bytes, _Known] = {}
        self._refused: dict[bytes, tuple[float, Refusal]] = {}
        self._asking: dict[bytes, asyncio.Task[_Known | Refusal]] = {}

    def cached(
        self, secret_text: str, origin: str | None = None, referer: str | None = None
    ) -> Caller | None:
        """The caller if the key is known and may be used from there; None: ask `caller`, which says why."""
        name = self._name(secret_text)
        known = self._known.get(name)
        if known is None:
            return None
        moment = time.monotonic()
        if moment >= known.until:
            return None
        if moment >= known.ask_again:
            known.ask_again = math.inf
            self._ask(name, known.secret_hash)
        if known.domains is not None and not is_allowed(known.domains, origin=origin, referer=referer):
            return None
        return known.caller

    async def caller(
        self, secret_text: str, *, origin: str | None = None, referer: str | None = None
    ) -> Caller:
        """Who the key speaks for.

        Raises 401 `invalid_api_key` or `api_key_expired`, 403 `account_inactive` or `domain_not_allowed`,
        503 when the database cannot be asked.
        """
        name = self._name(secret_text)
        known = self._known.get(name)
        if known is None or time.monotonic() >= known.until:
            known = await self._look_up(name, secret_text)
        if not is_allowed(known.domains, origin=origin, referer=referer):
            raise forbidden("domain_not_allowed", "This API key may not be used from this origin.")
        return known.caller

    def forget(self, key_id: UUID) -> None:
        """Ask the database at the key's next use."""
        for name in [name for name, known in self._known.items() if known.caller.key_id == key_id]:
            del self._known[name]

    async def close(self) -> None:
        """Wait for what is under way; to be called before the database is closed."""
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await notes_written()

    def _name(self, text: str) -> bytes:
        fingerprint = self._fingerprint.copy()
        fingerprint.update(text.encode("utf-8", "replace"))
        return fingerprint.digest()

    async def _look_up(self, name: bytes, text: str) -> _Known:
        refused = self._refused.get(name)
        if refused is not None and time.monotonic() < refused[0]:
            raise refused[1]()
        if not is_well_formed(text):
            raise invalid_api_key()
        # Shielded: whoever asked first may hang up while others wait for the same answer.
        found = await asyncio.shield(self._ask(name, key_hash(self._pepper, text)))
        if isinstance(found, _Known):
            return found
        raise found()

    def _ask(self, name: bytes, secret_hash: str) -> "asyncio.Task[_Known | Refusal]":
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._answer(name, secret_hash))
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return task

    async def _answer(self, name: bytes, secret_hash: str) -> _Known | Refusal:
        asked = time.monotonic()
        try:
            found = await _find(self._database, secret_hash, asked)
        except (SQLAlchemyError, OSError):
            return _cannot_ask
        self._known.pop(name, None)
        if isinstance(found, _Known):
            _make_room(self._known, _MOST_KNOWN)
            self._known[name] = found
        else:
            _make_room(self._refused, _MOST_REFUSED)
            self._refused[name] = (asked + TRUSTED, found)
        return found


async def _find(database: Database, secret_hash: str, asked: float) -> _Known | Refusal:
    statement = (
        select(ApiKeySecret, ApiKey, Tenant, Session, User, col(Budget.id))
        .join(
            ApiKey,
            and_(col(ApiKey.tenant_id) == ApiKeySecret.tenant_id, col(ApiKey.id) == ApiKeySecret.key_id),
        )
        .join(Tenant, col(Tenant.id) == ApiKey.tenant_id)
        .outerjoin(
            Session, and_(col(Session.tenant_id) == ApiKey.tenant_id, col(Session.id) == ApiKey.session_id)
        )
        .outerjoin(User, and_(col(User.tenant_id) == Session.tenant_id, col(User.id) == Session.user_id))
        .outerjoin(Budget, and_(col(Budget.tenant_id) == ApiKey.tenant_id, col(Budget.id) == ApiKey.id))
        .where(col(ApiKeySecret.secret_hash) == secret_hash)
    )
    async with system_session(database, "api-key") as session:
        row = (await session.execute(statement)).first()
    if row is None:
        return invalid_api_key
    secret, key, tenant, signed_in, user, budget_id = row
    moment = now()
    refusal = _refusal(secret, key, tenant, signed_in, user, moment)
    if refusal is not None:
        return refusal
    if key.last_used_at is None or moment >= key.last_used_at + MINUTE:
        note_use(database, ApiKey, tenant_id=key.tenant_id, row_id=key.id, moment=moment)
    ends = min((end for end in (secret.expires_at, key.expires_at) if end is not None), default=None)
    left = TRUSTED if ends is None else min(TRUSTED, (ends - moment) / 1000)
    return _Known(
        caller=_as_caller(key, tenant, user, budget_id),
        domains=None if "*" in key.allowed_domains else frozenset(key.allowed_domains),
        secret_hash=secret_hash,
        until=asked + left,
        ask_again=asked + min(AHEAD, left),
    )


def _refusal(
    secret: ApiKeySecret,
    key: ApiKey,
    tenant: Tenant,
    signed_in: Session | None,
    user: User | None,
    moment: Milliseconds,
) -> Refusal | None:
    if key.revoked_at is not None:
        return invalid_api_key
    if key.kind == "session" and not _is_signed_in(signed_in, user, moment):
        return invalid_api_key
    if key.expires_at is not None and key.expires_at <= moment:
        return api_key_expired
    if secret.expires_at is not None and secret.expires_at <= moment:
        return invalid_api_key
    return None if tenant.is_active else _account_inactive


def _is_signed_in(signed_in: Session | None, user: User | None, moment: Milliseconds) -> bool:
    if signed_in is None or user is None or not user.is_active or user.role not in ("owner", "admin"):
        return False
    return signed_in.revoked_at is None and moment < signed_in.created_at + LONGEST


def _as_caller(key: ApiKey, tenant: Tenant, user: User | None, budget_id: UUID | None) -> Caller:
    return Caller(
        tenant_id=key.tenant_id,
        kind="key",
        plan=tenant.plan,
        key_id=key.id,
        user_id=user.id if user else None,
        role=as_role(user.role) if user else None,
        live=key.kind != "test",
        permissions=split(key.permissions),
        scopes=split(key.scopes),
        allowed_models=None if "*" in key.allowed_models else frozenset(key.allowed_models),
        rate_limit_rpm=key.rate_limit_rpm or requests_per_minute(tenant.plan),
        # A budget that was lifted is still counted in, so that it is right when there is a ceiling again.
        budget_ids=() if budget_id is None and key.budget_limit is None else (key.id,),
        logs_enabled=key.logs_enabled,
        prompt_logging_enabled=key.prompt_logging_enabled,
    )


def _account_inactive() -> ApiError:
    return forbidden("account_inactive", "This organization is deactivated.")


def _cannot_ask() -> ApiError:
    return unavailable("service_unavailable", "Keys cannot be checked right now. Try again.")


def _make_room(entries: dict[bytes, Any], most: int) -> None:
    """Drop the oldest tenth when `entries` is full."""
    if len(entries) >= most:
        for name in list(entries)[: most // 10]:
            del entries[name]
