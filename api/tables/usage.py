"""One row for every request that held money, and for every refused one that reached the gateway's door."""

from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field

from api.tables.base import TenantOwned, micro_credits, moment


class UsageRow(TenantOwned, table=True):
    """What one request did and cost; with its price version the charge can be computed again.

    Token classes are disjoint: `input_tokens` excludes cached and cache-write tokens, `output_tokens`
    includes `reasoning_tokens` (which is only a remark). The id is the one in `gen_<32 hex>`.
    """

    __tablename__ = "usage_rows"
    __table_args__ = (
        Index("usage_time", "tenant_id", "created_at"),
        Index("usage_key", "tenant_id", "api_key_id", "created_at"),
    )

    # No foreign key: written by the ledger in the same step as transfers, see there.
    tenant_id: UUID = Field(primary_key=True)
    id: UUID = Field(primary_key=True)
    created_at: int = moment()
    service: str = Field(max_length=32)
    endpoint: str = Field(max_length=64)
    model: str = Field(max_length=200)
    provider: str = Field(default="", max_length=32)
    upstream_model: str = Field(default="", max_length=200)
    status_code: int = 200
    outcome: str = Field(max_length=16)
    """`ok`, `refused`, `failed`, `cut`, `client_gone`, `timeout`, `interrupted` (the server died)."""
    error_code: str = Field(default="", max_length=64)
    finish_reason: str = Field(default="", max_length=32)
    streamed: bool = False
    live: bool = True
    attempts: int = 0
    latency_ms: int = 0
    first_byte_ms: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: str = Field(default="provider", max_length=16)
    """`provider`, `estimate` (the vendor gave none), or `none`."""
    price_version: str = Field(default="", max_length=64)
    held: int = micro_credits()
    charge: int = micro_credits()
    provider_loss: int = micro_credits()
    """Micro-credits the answer cost above what could be charged; ours, not the tenant's."""
    api_key_id: UUID | None = None
    user_id: UUID | None = None
    session_id: str = Field(default="", max_length=64)
    trace_id: str = Field(default="", max_length=64)
