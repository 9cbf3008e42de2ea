"""What a request owes in the end, and its one usage row.

Before the first block nothing is charged, whoever failed, nor when a vendor breaks off before its first word.
Else the vendor's own figures count, or, when it gave none, what was sent. The only caller of the ledger's
settle and void for requests.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api import ledger
from api.catalog.catalog import Target
from api.catalog.prices import cost
from api.db.writer import Writer
from api.errors import ApiError
from api.gateway.routing import Route
from api.providers.errors import ProviderError
from api.types import Caller, TokenUsage
from api.wire.answer import Whole
from api.wire.chat import ChatRequest
from api.wire.relay import Relay

CLIENT_CLOSED = 499
"""The status in the log when the caller left first; nobody is there to receive it."""


@dataclass(slots=True)
class Attempt:
    """A request, and what has happened to it so far; the pipeline writes it, settlement reads it."""

    id: UUID
    caller: Caller
    route: Route
    request: ChatRequest
    endpoint: str
    trace: tuple[str, str]
    """Session and trace as the caller labelled the request."""
    started_at: float
    target: Target | None = None
    count: int = 0
    first_byte_at: float | None = None
    relay: Relay | None = None
    whole: Whole | None = None
    outcome: str = "ok"
    status: int = 200
    error_code: str = ""

    def failed(self, error: BaseException) -> None:
        """Remember how it ended; the words are ours and documented, never the vendor's."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.outcome, self.status, self.error_code = "client_gone", CLIENT_CLOSED, "client_closed_request"
            return
        refusal = error.refusal if isinstance(error, ProviderError) else error
        timed_out = isinstance(error, ProviderError) and error.timed_out
        self.outcome = "timeout" if timed_out else "cut" if self.has_begun else "failed"
        self.status = refusal.status if isinstance(refusal, ApiError) else 500
        self.error_code = refusal.code if isinstance(refusal, ApiError) else "internal_error"

    @property
    def has_begun(self) -> bool:
        """Whether the caller has, or is about to have, something of an answer."""
        return self.first_byte_at is not None or self.whole is not None

    @property
    def broke_off_unsaid(self) -> bool:
        """Whether the vendor's stream broke with nothing in it but its frame."""
        silent = self.relay is not None and not self.relay.content_events
        return silent and self.outcome in ("cut", "timeout")


async def resolve(writer: Writer, attempt: Attempt) -> int:
    """Settle or void the hold and write the usage row, in one operation; micro-credits charged.

    The operation is queued before the first await: cancelling the caller does not undo it.
    """
    usage, source = _measured(attempt)
    row = _row(attempt, usage or TokenUsage(), source)
    tenant_id, request_id = attempt.caller.tenant_id, attempt.id
    if not attempt.caller.live:
        await ledger.record(writer, tenant_id=tenant_id, request_id=request_id, usage=row)
        return 0
    if usage is None:
        await ledger.void(writer, tenant_id=tenant_id, request_id=request_id, usage=row)
        return 0
    owed = cost(usage, attempt.route.model.prices)
    charged = await ledger.settle(writer, tenant_id=tenant_id, request_id=request_id, cost=owed, usage=row)
    return charged or 0


def _measured(attempt: Attempt) -> tuple[TokenUsage | None, str]:
    """Tokens to charge and where the figure is from; None before the first block."""
    if not attempt.has_begun or attempt.broke_off_unsaid:
        return None, "none"
    reported = attempt.whole.usage if attempt.whole else attempt.relay.usage if attempt.relay else None
    if reported is not None and _is_possible(reported, attempt):
        return reported, "provider"
    sent = attempt.whole.output_bytes // 4 if attempt.whole else 0
    if attempt.relay:
        sent = attempt.relay.content_events
    # The hold's estimate errs high by a third; a charge must not.
    return TokenUsage(input=attempt.request.prompt_tokens * 3 // 4, output=sent), "estimate"


def _is_possible(usage: TokenUsage, attempt: Attempt) -> bool:
    """Whether the model can have used so much: a vendor's broken figure must not empty a wallet."""
    model = attempt.route.model
    prompt = usage.input + usage.cached + usage.cache_write
    return prompt <= 2 * model.context and usage.output <= 2 * model.max_output * attempt.request.choices


def _row(attempt: Attempt, usage: TokenUsage, source: str) -> dict[str, Any]:
    caller, model = attempt.caller, attempt.route.model
    finish = attempt.whole.finish_reason if attempt.whole else attempt.relay and attempt.relay.finish_reason
    first = attempt.first_byte_at
    return {
        "created_at": attempt.id.int >> 80,
        "service": model.category,
        "endpoint": attempt.endpoint,
        "model": model.id,
        "provider": attempt.target.vendor if attempt.target else "",
        "upstream_model": attempt.target.model if attempt.target else "",
        "status_code": attempt.status,
        "outcome": attempt.outcome,
        "error_code": attempt.error_code,
        "finish_reason": (finish or "")[:32],
        "streamed": attempt.request.stream,
        "live": caller.live,
        "attempts": attempt.count,
        "latency_ms": round((time.monotonic() - attempt.started_at) * 1000),
        "first_byte_ms": round((first - attempt.started_at) * 1000) if first else 0,
        "input_tokens": usage.input,
        "cached_tokens": usage.cached,
        "cache_write_tokens": usage.cache_write,
        "output_tokens": usage.output,
        "reasoning_tokens": usage.reasoning,
        "usage_source": source,
        "price_version": model.price_version,
        "api_key_id": caller.key_id.hex if caller.key_id else None,
        "user_id": caller.user_id.hex if caller.user_id else None,
        "session_id": attempt.trace[0],
        "trace_id": attempt.trace[1],
    }
