"""Organizations whose every row carries a word of their own, so that any leak of theirs is seen."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, String, select, update
from sqlmodel import SQLModel, col

from api import ledger
from api.db.engine import Database
from api.db.session import TenantSession, tenant_session
from api.db.system import system_session
from api.db.writer import Writer
from api.gateway.services import Services
from api.tables import ApiKey, Tenant, TenantOwned, User
from api.tenants.key_text import hint, new_key_text
from api.tenants.keys import secret_row
from api.tenants.sessions import Device, NewSession, open_session
from api.types import DAY, new_id, now
from tests.factories import make_prices, make_tenant, usage

NO_CANARY = {
    # Words of a fixed vocabulary.
    "api_keys.kind",
    "budgets.subject",
    "transfers.kind",
    "transfers.credit",
    "usage_rows.outcome",
    "usage_rows.price_version",
    "usage_rows.usage_source",
    "users.role",
    # Digests; what they are digests of is nowhere.
    "api_key_secrets.secret_hash",
    "sessions.cookie_hash",
    "sessions.refresh_hash",
    "sessions.replaced_refresh_hash",
    "users.password_hash",
    # Ids, which are canaries of themselves.
    "open_holds.budgets",
    "transfers.budgets",
}
"""Text columns that hold nothing a tenant wrote. Reviewed: nobody sees what leaks of these."""


@dataclass
class Organization:
    """One tenant with a row of every kind; `word` stands in all its texts."""

    database: Database
    secret: bytes
    word: str
    tenant_id: UUID
    user_id: UUID
    key_id: UUID
    key: str
    revoked_key: str
    request_id: UUID
    """Of a usage row."""
    ids: set[UUID] = field(default_factory=set)

    @property
    def email(self) -> str:
        return f"{self.word}@example.com"

    async def signs_in(self, *, by_cookie: bool) -> NewSession:
        """A new session of its owner."""
        async with tenant_session(self.database, self.tenant_id, writes=True) as session:
            user = (await session.execute(select(User))).scalar_one()
            device = Device(ip=self.word, user_agent=self.word)
            return open_session(session, self.secret, user=user, device=device, by_cookie=by_cookie)

    def seen_in(self, text: str, *, sent: tuple[str, ...] = ()) -> list[str]:
        """What of it the text shows, beside what was `sent` by who got the text."""
        shown = text.lower()
        for value in sorted(sent, key=len, reverse=True):
            shown = shown.replace(value.lower(), "")
        forms = {self.word} | {str(each) for each in self.ids} | {each.hex for each in self.ids}
        return sorted(form for form in forms if form in shown)


def tables() -> list[type[SQLModel]]:
    """Every table of tenants' rows."""
    return list(TenantOwned.__subclasses__())


async def fingerprint(database: Database, tenant_id: UUID) -> dict[str, list[str]]:
    """All that is stored of a tenant, by table."""
    found = {}
    async with tenant_session(database, tenant_id) as session:
        for table in (*tables(), Tenant):
            rows = (await session.execute(select(table))).scalars()
            found[str(table.__tablename__)] = sorted(repr(sorted(row.model_dump().items())) for row in rows)
    return found


async def organization(services: Services, writer: Writer, word: str) -> Organization:
    """A new one with a row in every table. Raises AssertionError where a row or a text is missing."""
    database, secret = services.database, services.secret
    await make_prices(database)
    tenant_id = await make_tenant(database, name=word)
    user = User(
        tenant_id=tenant_id,
        id=new_id(),
        email=f"{word}@example.com",
        full_name=word,
        phone_number=word,
        role="owner",
        created_at=now(),
        updated_at=now(),
    )
    keys = [_key(tenant_id, user.id, word), _key(tenant_id, user.id, word, revoked_at=now())]
    texts = [new_key_text(live=True) for _ in keys]
    async with system_session(database, "registration", writes=True) as session:
        await session.execute(update(Tenant).where(col(Tenant.id) == tenant_id).values(slug=word))
        session.add(user)
        session.add_all(keys)
        await session.flush()
        for key, text in zip(keys, texts, strict=True):
            key.hint = f"{word} {hint(text)}"
            session.add(secret_row(secret, key=key, text=text, moment=now(), expires_at=None))
        await ledger.credit(
            session,
            tenant_id=tenant_id,
            amount=1_000_000_000,
            part="promo",
            kind="signup_bonus",
            source=word,
            reference=word,
        )
    async with tenant_session(database, tenant_id, writes=True) as session:
        await ledger.set_budget(session, budget_id=keys[0].id, subject="key", ceiling=500_000_000)
    made = Organization(
        database, secret, word, tenant_id, user.id, keys[0].id, texts[0], texts[1], request_id=new_id()
    )
    await made.signs_in(by_cookie=False)
    await _spend(writer, made)
    async with tenant_session(database, tenant_id) as session:
        made.ids = await _ids(session)
        await _require_canaries(session, word)
    return made


def _key(tenant_id: UUID, user_id: UUID, word: str, **values: Any) -> ApiKey:
    return ApiKey(
        **{
            "tenant_id": tenant_id,
            "id": new_id(),
            "name": word,
            "kind": "live",
            "hint": word,
            "permissions": "*" if not values else word,
            "scopes": f"usage:read,{word}",
            "allowed_domains": ["*"] if not values else [word],
            "allowed_models": ["*"] if not values else [word],
            "budget_limit": 500_000_000,
            "created_by": user_id,
            "created_at": now(),
            "updated_at": now(),
            **values,
        }
    )


async def _spend(writer: Writer, made: Organization) -> None:
    """One request that is charged, one that failed, and one that goes on."""
    texts = ("service", "endpoint", "model", "provider", "upstream_model", "finish_reason", "error_code")
    row = usage(
        1000,
        **dict.fromkeys((*texts, "session_id", "trace_id"), made.word),
        api_key_id=made.key_id.hex,
        user_id=made.user_id.hex,
        created_at=now(),
    )
    for request_id, kind in ((made.request_id, "settle"), (new_id(), "void"), (new_id(), "open")):
        which = {"tenant_id": made.tenant_id, "request_id": request_id}
        assert await ledger.hold(
            writer, **which, amount=5000, budgets=[made.key_id], context=row, expires_at=now() + DAY
        )
        if kind == "settle":
            assert await ledger.settle(writer, **which, cost=1000, usage=row) == 1000
        elif kind == "void":
            assert await ledger.void(writer, **which, usage={**row, "status_code": 500, "outcome": "failed"})


async def _ids(session: TenantSession) -> set[UUID]:
    found: set[UUID] = set()
    for table in tables():
        for row in (await session.execute(select(table))).scalars():
            found |= {value for value in row.model_dump().values() if isinstance(value, UUID)}
    return found


async def _require_canaries(session: TenantSession, word: str) -> None:
    """Every table has a row, and every text that a tenant can fill says the word."""
    for table in tables():
        rows = [row.model_dump() for row in (await session.execute(select(table))).scalars()]
        assert rows, f"no row of {table.__tablename__}: fill it here"
        for column in table.__table__.columns:  # type: ignore[attr-defined]
            name = f"{table.__tablename__}.{column.name}"
            if isinstance(column.type, String | JSON) or "String" in type(column.type).__name__:
                filled = any(word in str(row[column.name]) for row in rows)
                assert filled or name in NO_CANARY, f"{name} holds no canary: fill it here"
                assert not (filled and name in NO_CANARY), f"{name} holds a canary: take it off the list"
