"""API keys: made, listed, changed, rotated, revoked. By owners and admins, never by a key.

The plaintext exists in the answer that makes it and nowhere else.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict
from uuid import UUID

from sqlalchemy import delete, or_, select, update
from sqlmodel import col

from api.db.engine import Database
from api.db.session import TenantSession, tenant_session
from api.errors import ApiError, forbidden, invalid_request, not_found
from api.tables import ApiKey, ApiKeySecret, Tenant
from api.tenants.budgets import set_key_budget, spent_under_budget
from api.tenants.key_text import hint, key_hash, new_key_text
from api.tenants.plans import requests_per_minute
from api.tenants.secrets import derive
from api.types import Caller, Milliseconds, new_id, now

MOST_KEYS = 500
HOUR: Milliseconds = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What a key shall allow. Lists with `*` allow all; `budget_limit` is in micro-credits."""

    name: str
    kind: Literal["live", "test"] = "live"
    permissions: str = "*"
    scopes: str = ""
    allowed_domains: tuple[str, ...] = ("*",)
    allowed_models: tuple[str, ...] = ("*",)
    rate_limit_rpm: int | None = None
    budget_limit: int | None = None
    logs_enabled: bool = False
    prompt_logging_enabled: bool = False
    expires_at: Milliseconds | None = None


class KeyChanges(TypedDict, total=False):
    """What is to be changed; absent fields stay. None takes a limit or an end away."""

    name: str
    permissions: str
    scopes: str
    allowed_domains: list[str]
    allowed_models: list[str]
    rate_limit_rpm: int | None
    budget_limit: int | None
    logs_enabled: bool
    prompt_logging_enabled: bool
    expires_at: Milliseconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDetails:
    """A key as its people may see it, without its secret."""

    id: UUID
    name: str
    kind: str
    hint: str
    permissions: str
    scopes: str
    allowed_domains: tuple[str, ...]
    allowed_models: tuple[str, ...]
    rate_limit_rpm: int | None
    effective_rpm: int
    """The key's own calls a minute, else its plan's."""
    budget_limit: int | None
    budget_used: int
    budget_held: int
    logs_enabled: bool
    prompt_logging_enabled: bool
    created_at: Milliseconds
    expires_at: Milliseconds | None
    revoked_at: Milliseconds | None
    last_used_at: Milliseconds | None

    @property
    def is_active(self) -> bool:
        """Whether it still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now())


async def create_key(
    database: Database, secret: bytes, caller: Caller, new: NewKey
) -> tuple[KeyDetails, str]:
    """A new key and its plaintext, which cannot be read again. Raises 403, 400 beyond `MOST_KEYS`."""
    require_manager(caller)
    moment, text = now(), new_key_text(live=new.kind == "live")
    key = ApiKey(
        tenant_id=caller.tenant_id,
        id=new_id(),
        name=new.name,
        kind=new.kind,
        hint=hint(text),
        permissions=new.permissions,
        scopes=new.scopes,
        allowed_domains=list(new.allowed_domains),
        allowed_models=list(new.allowed_models),
        rate_limit_rpm=new.rate_limit_rpm,
        budget_limit=new.budget_limit,
        logs_enabled=new.logs_enabled,
        prompt_logging_enabled=new.prompt_logging_enabled,
        created_by=caller.user_id,
        created_at=moment,
        updated_at=moment,
        expires_at=new.expires_at,
    )
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        existing = await session.execute(
            select(col(ApiKey.id)).where(col(ApiKey.kind) != "session").limit(MOST_KEYS)
        )
        if len(existing.all()) >= MOST_KEYS:
            raise invalid_request(f"An organization has at most {MOST_KEYS} keys. Delete unused ones first.")
        session.add(key)
        await session.flush()
        session.add(secret_row(secret, key=key, text=text, moment=moment, expires_at=None))
        if new.budget_limit is not None:
            await set_key_budget(session, key_id=key.id, ceiling=new.budget_limit)
        await session.flush()
        return (await _details(session, [key]))[0], text


async def list_keys(database: Database, caller: Caller) -> list[KeyDetails]:
    """Every key of the organization, newest first; the dashboard's own are not among them."""
    require_manager(caller)
    async with tenant_session(database, caller.tenant_id) as session:
        rows = await session.execute(
            select(ApiKey).where(col(ApiKey.kind) != "session").order_by(col(ApiKey.id).desc())
        )
        return await _details(session, list(rows.scalars()))


async def get_key(database: Database, caller: Caller, key_id: UUID) -> KeyDetails:
    """One key. Raises 404 when the organization has none of that id."""
    require_manager(caller)
    async with tenant_session(database, caller.tenant_id) as session:
        return (await _details(session, [await _key(session, key_id)]))[0]


async def update_key(database: Database, caller: Caller, key_id: UUID, changes: KeyChanges) -> KeyDetails:
    """The key with `changes`, in force within a second. Raises 404; 400 for a budget already overspent."""
    require_manager(caller)
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        key = await _key(session, key_id)
        if "budget_limit" in changes:
            await set_key_budget(session, key_id=key_id, ceiling=changes["budget_limit"])
        for name, value in changes.items():
            setattr(key, name, value)
        key.updated_at = now()
        await session.flush()
        return (await _details(session, [key]))[0]


async def rotate_key(
    database: Database, secret: bytes, caller: Caller, key_id: UUID, *, overlap_hours: int
) -> tuple[KeyDetails, str]:
    """A new secret for the same key; the earlier ones end after the overlap, within a second when it is 0.

    Raises 404; 400 when the key is revoked.
    """
    require_manager(caller)
    moment = now()
    ends = moment + overlap_hours * HOUR
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        key = await _key(session, key_id)
        if key.revoked_at is not None:
            raise invalid_request("A revoked key cannot be rotated. Create a new one.")
        text = new_key_text(live=key.kind == "live")
        key.hint, key.updated_at = hint(text), moment
        await session.flush()  # locks the key: rotations of one key come one after the other
        of_key = col(ApiKeySecret.key_id) == key_id
        await session.execute(delete(ApiKeySecret).where(of_key, col(ApiKeySecret.expires_at) <= moment))
        await session.execute(
            update(ApiKeySecret)
            .where(of_key, or_(col(ApiKeySecret.expires_at).is_(None), col(ApiKeySecret.expires_at) > ends))
            .values(expires_at=ends)
        )
        session.add(secret_row(secret, key=key, text=text, moment=moment, expires_at=None))
        await session.flush()
        return (await _details(session, [key]))[0], text


async def revoke_key(database: Database, caller: Caller, key_id: UUID) -> KeyDetails:
    """End the key for good, within a second; a second revocation changes nothing. Raises 404."""
    require_manager(caller)
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        key = await _key(session, key_id)
        if key.revoked_at is None:
            key.revoked_at = key.updated_at = now()
            await session.flush()
        return (await _details(session, [key]))[0]


async def delete_key(database: Database, caller: Caller, key_id: UUID) -> None:
    """End the key within a second and forget it; its usage and what it spent stay. Raises 404."""
    require_manager(caller)
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        await session.delete(await _key(session, key_id))


def require_manager(caller: Caller) -> None:
    """Raise unless `caller` is a signed-in owner or admin."""
    if caller.kind != "session":
        raise ApiError(401, "invalid_token", "Keys cannot be managed with a key. Sign in instead.")
    if caller.role not in ("owner", "admin"):
        raise forbidden("permission_denied", "Requires role: admin, owner")


def secret_row(
    secret: bytes, *, key: ApiKey, text: str, moment: Milliseconds, expires_at: Milliseconds | None
) -> ApiKeySecret:
    """The stored form of a plaintext key."""
    return ApiKeySecret(
        tenant_id=key.tenant_id,
        id=new_id(),
        key_id=key.id,
        secret_hash=key_hash(derive(secret, b"api-keys"), text),
        created_at=moment,
        expires_at=expires_at,
    )


async def _key(session: TenantSession, key_id: UUID) -> ApiKey:
    found = await session.execute(
        select(ApiKey).where(col(ApiKey.id) == key_id, col(ApiKey.kind) != "session")
    )
    key = found.scalar_one_or_none()
    if key is None:
        raise not_found("API key")
    return key


async def _details(session: TenantSession, keys: list[ApiKey]) -> list[KeyDetails]:
    spent = await spent_under_budget(session, key_ids=[key.id for key in keys])
    plan = (await session.execute(select(col(Tenant.plan)))).scalar_one()
    return [_view(key, spent.get(key.id, (0, 0)), requests_per_minute(plan)) for key in keys]


def _view(key: ApiKey, spent: tuple[int, int], plan_rpm: int) -> KeyDetails:
    return KeyDetails(
        id=key.id,
        name=key.name,
        kind=key.kind,
        hint=key.hint,
        permissions=key.permissions,
        scopes=key.scopes,
        allowed_domains=tuple(key.allowed_domains),
        allowed_models=tuple(key.allowed_models),
        rate_limit_rpm=key.rate_limit_rpm,
        effective_rpm=key.rate_limit_rpm or plan_rpm,
        budget_limit=key.budget_limit,
        budget_used=spent[0],
        budget_held=spent[1],
        logs_enabled=key.logs_enabled,
        prompt_logging_enabled=key.prompt_logging_enabled,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )
