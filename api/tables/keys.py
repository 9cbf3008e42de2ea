"""API keys: what they allow, and the secrets that open them."""

from uuid import UUID

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field

from api.tables.base import TenantOwned, moment, within_tenant


class ApiKey(TenantOwned, table=True):
    """What a key may do. The secret itself is nowhere: only its HMAC, in `ApiKeySecret`."""

    __tablename__ = "api_keys"

    id: UUID = Field(primary_key=True)
    name: str = Field(max_length=255)
    kind: str = Field(max_length=16)
    """`live`, `test`, or `session` (the dashboard's own, hidden and short-lived)."""
    hint: str = Field(max_length=32)
    """What may be shown of the newest secret: `cm_live_…a1B2`."""
    permissions: str = Field(default="*", max_length=255)
    scopes: str = Field(default="", max_length=1024)
    allowed_domains: list[str] = Field(default_factory=lambda: ["*"], sa_column=Column(JSON, nullable=False))
    allowed_models: list[str] = Field(default_factory=lambda: ["*"], sa_column=Column(JSON, nullable=False))
    rate_limit_rpm: int | None = None
    """None: the plan's."""
    budget_limit: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    """Micro-credits the key may ever spend; enforced by the `Budget` row of the same id."""
    logs_enabled: bool = False
    prompt_logging_enabled: bool = False
    created_by: UUID | None = None
    """The user who made it; for `session` keys the user it acts for."""
    session_id: UUID | None = None
    """For `session` keys: the sign-in it dies with."""
    created_at: int = moment()
    updated_at: int = moment()
    expires_at: int | None = moment(nullable=True)
    revoked_at: int | None = moment(nullable=True)
    last_used_at: int | None = moment(nullable=True)


class ApiKeySecret(TenantOwned, table=True):
    """One secret of a key as HMAC-SHA256; a rotation adds one and gives the old ones an end."""

    __tablename__ = "api_key_secrets"
    __table_args__ = (within_tenant("key_id", "api_keys"),)

    id: UUID = Field(primary_key=True)
    key_id: UUID
    secret_hash: str = Field(max_length=64, unique=True)
    created_at: int = moment()
    expires_at: int | None = moment(nullable=True)
