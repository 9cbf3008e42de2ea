"""The playground's key: made for one sign-in, hidden from lists, good for ten minutes at a time."""

from sqlalchemy import delete, select
from sqlmodel import col

from api.db.engine import Database
from api.db.session import tenant_session
from api.errors import forbidden
from api.tables import ApiKey, ApiKeySecret
from api.tenants.key_text import hint, new_key_text
from api.tenants.keys import secret_row
from api.tenants.signed_in import SessionCaller
from api.types import Milliseconds, new_id, now

LIFETIME: Milliseconds = 10 * 60_000


async def session_key(database: Database, secret: bytes, caller: SessionCaller) -> str:
    """A fresh secret of the sign-in's own key, for the next ten minutes; ask again before they are over.

    The key carries the person, and opens nothing once the sign-in has ended. Raises 403 for agents, who use
    the playground only within an allowance.
    """
    if caller.role not in ("owner", "admin"):
        raise forbidden("permission_denied", "Requires role: admin, owner")
    moment, text = now(), new_key_text(live=True)
    async with tenant_session(database, caller.tenant_id, writes=True) as session:
        found = await session.execute(
            select(ApiKey)
            .where(col(ApiKey.kind) == "session", col(ApiKey.session_id) == caller.session_id)
            .limit(1)
        )
        key = found.scalar_one_or_none()
        if key is None:
            key = ApiKey(
                tenant_id=caller.tenant_id,
                id=new_id(),
                name="Playground",
                kind="session",
                hint=hint(text),
                created_by=caller.user_id,
                session_id=caller.session_id,
                created_at=moment,
                updated_at=moment,
            )
            session.add(key)
        key.hint, key.updated_at, key.expires_at = hint(text), moment, moment + LIFETIME
        await session.flush()
        await session.execute(
            delete(ApiKeySecret).where(
                col(ApiKeySecret.key_id) == key.id, col(ApiKeySecret.expires_at) <= moment
            )
        )
        session.add(secret_row(secret, key=key, text=text, moment=moment, expires_at=moment + LIFETIME))
    return text
