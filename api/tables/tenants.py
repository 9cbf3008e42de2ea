"""Organizations, their people, and how people prove who they are."""

from uuid import UUID

from sqlalchemy import JSON, BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from api.tables.base import TenantOwned, moment, within_tenant


class Tenant(SQLModel, table=True):
    """An organization. Every other row belongs to one."""

    __tablename__ = "tenants"

    id: UUID = Field(primary_key=True)
    name: str = Field(max_length=255)
    slug: str = Field(max_length=80, unique=True)
    plan: str = Field(max_length=32)
    is_active: bool = True
    created_at: int = moment()


class User(TenantOwned, table=True):
    """A person in exactly one organization; the address is unique over all of them."""

    __tablename__ = "users"

    id: UUID = Field(primary_key=True)
    email: str = Field(max_length=320, unique=True)
    """Lower case, as the person is known to us."""
    full_name: str = Field(max_length=255)
    phone_number: str = Field(default="", max_length=20)
    password_hash: str | None = Field(default=None, max_length=255)
    role: str = Field(max_length=16)
    is_active: bool = True
    created_at: int = moment()
    updated_at: int = moment()


class Session(TenantOwned, table=True):
    """One sign-in on one device: the access token's `sid`, a rotating refresh token, the cookie's token."""

    __tablename__ = "sessions"
    __table_args__ = (within_tenant("user_id", "users"),)

    id: UUID = Field(primary_key=True)
    user_id: UUID
    refresh_hash: str = Field(max_length=64, unique=True)
    replaced_refresh_hash: str | None = Field(default=None, max_length=64, index=True)
    """The token that was rotated away last: seeing it again means theft, and ends all sessions."""
    cookie_hash: str | None = Field(default=None, max_length=64, unique=True)
    user_agent: str = Field(default="", max_length=255)
    ip: str = Field(default="", max_length=45)
    created_at: int = moment()
    last_used_at: int = moment()
    refresh_expires_at: int = moment()
    revoked_at: int | None = moment(nullable=True)


class EmailCode(SQLModel, table=True):
    """A six-digit code sent by mail, hashed; for `register` it carries what the account will be made of."""

    __tablename__ = "email_codes"
    __table_args__ = (Index("email_codes_address", "email", "purpose"),)

    id: UUID = Field(primary_key=True)
    email: str = Field(max_length=320)
    purpose: str = Field(max_length=32)
    code_hash: str = Field(max_length=64)
    attempts: int = 0
    payload: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: int = moment()
    expires_at: int = moment()
    used_at: int | None = moment(nullable=True)


class JobLease(SQLModel, table=True):
    """Which process may run a periodic job until when."""

    __tablename__ = "job_leases"

    name: str = Field(primary_key=True, max_length=64)
    holder: str = Field(max_length=64)
    until: int = Field(sa_column=Column(BigInteger, nullable=False))
