"""The one way to spend: `async with admit(…) as admission`.

Entering checks every limit and holds the money, or refuses and leaves nothing behind. Leaving always resolves
the hold, once, however the request ended: the settlement is queued before anything is awaited, so that a
cancelled request cannot lose it.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from api import ledger
from api.catalog.prices import cost
from api.errors import ApiError, no_credits, too_many
from api.gateway.routing import Route
from api.gateway.services import Services
from api.gateway.settlement import Attempt, resolve
from api.money import credits_number, credits_text
from api.types import Caller, TokenUsage, new_id, now
from api.wire.chat import ChatRequest

HOLD_GRACE: int = 60_000
"""Milliseconds a hold outlives its request's deadline before the sweeper takes it for a dead process's."""

WINDOW = 60.0


class Admission:
    """One admitted request: what it may cost at most now, and what became of it."""

    __slots__ = ("_bucket", "attempt", "charged", "covered_output", "held", "services")

    def __init__(self, services: Services, attempt: Attempt) -> None:
        self.services, self.attempt = services, attempt
        caller, request = attempt.caller, attempt.request
        self.held = 0
        self.covered_output = (request.max_tokens or attempt.route.model.working_output) * request.choices
        """Output tokens the hold covers."""
        self.charged: int | None = None
        """Micro-credits, known once the hold is resolved."""
        self._bucket = f"key:{caller.key_id or caller.user_id}"

    @property
    def id(self) -> UUID:
        """The request's id: its hold's, its usage row's."""
        return self.attempt.id

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.attempt.caller

    @property
    def route(self) -> Route:
        """The model and its targets."""
        return self.attempt.route

    @property
    def request(self) -> ChatRequest:
        """What is asked."""
        return self.attempt.request

    @property
    def answer_id(self) -> str:
        """The id callers see and look up: `gen_` and 32 hex digits."""
        return f"gen_{self.id.hex}"

    async def __aenter__(self) -> Self:
        await self._take_slot()
        try:
            await self._hold()
        except BaseException:
            self.services.limiter.leave(self._bucket)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.attempt.failed(error)
        try:
            self.charged = await resolve(self.services.writer, self.attempt)
        finally:
            self.services.limiter.leave(self._bucket)

    async def extend(self) -> bool:
        """Hold for another slice of output; False when the wallet or a budget has no room for it."""
        if not self.caller.live:
            self.covered_output += self.route.model.working_output
            return True
        slice_cost = cost(TokenUsage(output=self.route.model.working_output), self.route.model.prices)
        granted = await ledger.extend(
            self.services.writer,
            tenant_id=self.caller.tenant_id,
            request_id=self.id,
            amount=slice_cost,
        )
        self.held += granted
        self.covered_output += self.route.model.working_output if granted else 0
        return bool(granted)

    async def _take_slot(self) -> None:
        limiter, caller = self.services.limiter, self.caller
        wait = limiter.take_now(self._bucket, caller.rate_limit_rpm, WINDOW)
        if wait is None:
            wait = await limiter.take(self._bucket, caller.rate_limit_rpm, WINDOW)
        if wait > 0:
            raise too_many(
                "rate_limit_exceeded",
                f"Rate limit of {caller.rate_limit_rpm} requests a minute reached for this API key.",
                retry_after=int(wait) + 1,
            )
        entered = limiter.enter_now(self._bucket, caller.in_flight_limit)
        if entered is None:
            entered = await limiter.enter(self._bucket, caller.in_flight_limit)
        if not entered:
            await limiter.give_back(self._bucket)
            raise too_many(
                "too_many_concurrent_requests",
                "Too many concurrent requests for this API key. Retry shortly.",
                retry_after=1,
            )

    async def _hold(self) -> None:
        if not self.caller.live:
            return
        model, prices = self.route.model, self.route.model.prices
        dearest_input = max(prices["input"], prices["cached"], prices["cache_write"])
        amount = cost(
            TokenUsage(input=self.request.prompt_tokens, output=self.covered_output),
            {**prices, "input": dearest_input},
        )
        settings = self.services.settings
        granted = await ledger.hold(
            self.services.writer,
            tenant_id=self.caller.tenant_id,
            request_id=self.id,
            amount=amount,
            budgets=self.caller.budget_ids,
            context={
                "service": model.category,
                "endpoint": self.attempt.endpoint,
                "model": model.id,
                "price_version": model.price_version,
                "streamed": self.request.stream,
                "api_key_id": self.caller.key_id.hex if self.caller.key_id else None,
                "user_id": self.caller.user_id.hex if self.caller.user_id else None,
            },
            expires_at=now() + int(settings.request_deadline * 1000) + HOLD_GRACE,
        )
        if not granted:
            await self.services.limiter.give_back(self._bucket)
            raise await self._refusal(amount)
        self.held = amount

    async def _refusal(self, amount: int) -> ApiError:
        try:
            binding = await ledger.why_refused(
                self.services.database, self.caller.tenant_id, amount, self.caller.budget_ids
            )
        except (SQLAlchemyError, OSError):  # the refusal stands, only its reason cannot be read now
            return no_credits(f"Insufficient credits: this call may need up to {credits_text(amount)}.")
        if binding.budget is not None:
            return no_credits(
                f"This API key's budget does not cover the call: it may need up to {credits_text(amount)} "
                f"credits and {credits_text(binding.available)} are left. Raise the budget in the dashboard.",
                "budget_exceeded",
            )
        refusal = no_credits(
            f"Insufficient credits (balance: {credits_text(binding.available)}): this call may need up to "
            f"{credits_text(amount)}. Ask this server's operator to grant more, or lower max_tokens."
        )
        refusal.headers["X-Credits-Balance"] = f"{credits_number(binding.available):.6f}"
        return refusal


def admit(
    services: Services,
    caller: Caller,
    route: Route,
    request: ChatRequest,
    *,
    endpoint: str,
    trace: tuple[str, str] = ("", ""),
) -> Admission:
    """Admit `request` for `caller`; use it as `async with`.

    Entering raises ApiError 429 (rate, concurrency) or 402 (wallet, budget) with nothing held.
    `trace` is (session id, trace id) as the caller labelled the request.
    """
    attempt = Attempt(
        id=new_id(),
        caller=caller,
        route=route,
        request=request,
        endpoint=endpoint,
        trace=trace,
        started_at=time.monotonic(),
    )
    return Admission(services, attempt)
