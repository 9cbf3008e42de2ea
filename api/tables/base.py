"""What the tables share: the tenant's key, and the reviewed list of tables without one."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint
from sqlmodel import Field, SQLModel

metadata = SQLModel.metadata

GLOBAL = frozenset({"tenants", "email_codes", "job_leases", "price_versions"})
"""Tables that belong to no tenant: the tenants themselves, codes of people who have none yet, bookkeeping."""


class TenantOwned(SQLModel):
    """A row of one tenant. `TenantSession` filters every statement on these and stamps new rows."""

    tenant_id: UUID = Field(primary_key=True, foreign_key="tenants.id", ondelete="CASCADE")


def moment(*, nullable: bool = False, index: bool = False) -> Any:
    """A column of UTC milliseconds."""
    return Field(
        default=None if nullable else ..., sa_column=Column(BigInteger, nullable=nullable, index=index)
    )


def micro_credits(default: int = 0) -> Any:
    """A column of micro-credits."""
    return Field(
        default=default,
        sa_column=Column(BigInteger, nullable=False, default=default, server_default=str(default)),
    )


def within_tenant(column: str, table: str, *, ondelete: str = "CASCADE") -> ForeignKeyConstraint:
    """A reference from `(tenant_id, column)` to a row of the same tenant."""
    return ForeignKeyConstraint(
        ["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], ondelete=ondelete
    )
