"""The tables by aggregate. Every table is `TenantOwned` or on the `GLOBAL` list; moments are milliseconds.

Rows of a tenant have the composite key `(tenant_id, id)`, and references between them carry the tenant, so
that the database itself cannot store a reference across tenants.
"""

from api.tables.base import GLOBAL, TenantOwned, metadata
from api.tables.keys import ApiKey, ApiKeySecret
from api.tables.ledger import Budget, OpenHold, PriceVersion, Transfer, Wallet
from api.tables.tenants import EmailCode, JobLease, Session, Tenant, User
from api.tables.usage import UsageRow

__all__ = [
    "GLOBAL",
    "ApiKey",
    "ApiKeySecret",
    "Budget",
    "EmailCode",
    "JobLease",
    "OpenHold",
    "PriceVersion",
    "Session",
    "Tenant",
    "TenantOwned",
    "Transfer",
    "UsageRow",
    "User",
    "Wallet",
    "metadata",
]
