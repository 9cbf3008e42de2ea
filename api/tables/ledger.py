"""The books. Transfers are append-only and are the truth; wallets, budgets and open holds are checked caches.

All amounts are micro-credits. A wallet has three parts that burn in the order promo, plan, paid.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Index, text
from sqlmodel import Field, SQLModel

from api.tables.base import TenantOwned, micro_credits, moment

_NOT_OF_A_REQUEST = "resolves IS NULL AND kind <> 'hold'"


def _budgets() -> Column[Any]:
    return Column(JSON, nullable=False, server_default="[]")


class Wallet(TenantOwned, table=True):
    """What a tenant has (`promo + plan + paid`) and how much of it is held; never below zero."""

    __tablename__ = "wallets"
    __table_args__ = (
        CheckConstraint("promo >= 0 AND plan >= 0 AND paid >= 0", name="wallet_never_negative"),
        CheckConstraint("held >= 0 AND held <= promo + plan + paid", name="wallet_holds_fit"),
        {"sqlite_with_rowid": False},
    )

    promo: int = micro_credits()
    plan: int = micro_credits()
    paid: int = micro_credits()
    held: int = micro_credits()


class Transfer(TenantOwned, table=True):
    """One movement. Rows are never changed or deleted: triggers refuse it.

    `debit` and `credit` name the sides: a `hold` goes from `wallet` to `held`, `void` and `expire` back; a
    `settle` goes from `held` to `revenue`, what it leaves of the hold is free again; a credit
    (`signup_bonus`, …) comes from `promotions` or `cash:<provider>` into `wallet`. `promo`, `plan` and `paid`
    are what the movement changes in the wallet's parts: zero for holds, negative for a settle.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="transfer_amount_not_negative"),
        CheckConstraint("debit <> credit", name="transfer_has_two_sides"),
        Index(
            "transfers_reference",
            "tenant_id",
            "kind",
            "reference",
            unique=True,
            sqlite_where=text(_NOT_OF_A_REQUEST),
            postgresql_where=text(_NOT_OF_A_REQUEST),
        ),
        Index(
            "transfers_resolves",
            "tenant_id",
            "resolves",
            unique=True,
            sqlite_where=text("resolves IS NOT NULL"),
            postgresql_where=text("resolves IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )

    # No foreign key: the wallet's row guards what is written here, and books outlive the organization they
    # speak of. References to `tenants` on this table, open holds and usage rows cost PostgreSQL a third more
    # work per request (83 instead of 62 µs): each insert locks the hot tenant's row once more.
    tenant_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    """Sortable by time. A hold's is its request's."""
    kind: str = Field(max_length=32)
    debit: str = Field(max_length=32)
    credit: str = Field(max_length=32)
    amount: int = micro_credits()
    promo: int = micro_credits()
    plan: int = micro_credits()
    paid: int = micro_credits()
    reference: str = Field(max_length=128)
    """What the movement is for; unique within its kind, so that doing it again does nothing.

    Movements of a request need no index for that: a hold is unique by its id, a resolution by `resolves`.
    For a request, its 32 hex digits: a hold's alone, `<request>:<extension>` for an extension's, and
    `overrun:<request>` for what settlement found above them.
    """
    resolves: UUID | None = None
    """The request whose holds this resolves: unique, so that a second resolution is impossible."""
    budgets: list[str] = Field(default_factory=list, sa_column=_budgets())
    """For a settle, the budgets (32 hex digits) it was also counted against."""
    created_at: int = moment()


class OpenHold(TenantOwned, table=True):
    """A request in flight and the sum held for it; deleted when it is resolved. Its id is the request's."""

    __tablename__ = "open_holds"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="open_hold_not_negative"),
        {"sqlite_with_rowid": False},
    )

    # No foreign key, for the same reasons as `Transfer`.
    tenant_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    amount: int = micro_credits()
    budgets: list[str] = Field(default_factory=list, sa_column=_budgets())
    """Ids (32 hex digits) of the budgets it is also held in."""
    context: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """What its usage row needs when the process that held it is gone."""
    created_at: int = moment()
    expires_at: int = moment()


class Budget(TenantOwned, table=True):
    """A ceiling on spending beside the wallet. A key's own budget has the key's id.

    The ceiling may be lowered below what is used or held: nothing more is granted then.
    """

    __tablename__ = "budgets"
    __table_args__ = (CheckConstraint("used >= 0 AND held >= 0", name="budget_not_negative"),)

    id: UUID = Field(primary_key=True)
    subject: str = Field(max_length=16)
    """`key`; other subjects have rows of their own."""
    ceiling: int = Field(sa_column=Column(BigInteger, nullable=False))
    opening: int = micro_credits()
    """What counted as used when the budget was made; settlements since then make up the rest."""
    used: int = micro_credits()
    held: int = micro_credits()


class PriceVersion(SQLModel, table=True):
    """Prices as they were: what a usage row points at, so that its charge can be computed again."""

    __tablename__ = "price_versions"

    id: str = Field(primary_key=True, max_length=64)
    """`<model>@<first 12 hex of the SHA-256 of the prices>`."""
    model: str = Field(max_length=200)
    prices: dict[str, int] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Micro-credits per million units, by unit class (`input`, `cached`, `output`, …)."""
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")), default=0)
