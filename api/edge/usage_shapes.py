"""The shapes of the usage API's answers, as `/openapi.json` tells them."""

from typing_extensions import TypedDict


class Totals(TypedDict):
    """Sums of a period. `success_rate` is 0 to 1; latencies are of requests that succeeded, 0 without any."""

    total_requests: int
    success: int
    errors: int
    success_rate: float
    total_cost_usd: float
    total_credits: float
    total_input_tokens: int
    total_output_tokens: int
    total_audio_seconds: float
    avg_latency_ms: int
    p50_latency_ms: int
    p95_latency_ms: int


class Cost(TypedDict):
    """Requests and what they cost."""

    requests: int
    cost_usd: float
    credits: float


class Tokens(Cost):
    """The same with tokens; input includes cached ones."""

    input_tokens: int
    output_tokens: int


class ServiceUsage(Tokens):
    """Sums of a service."""

    service: str


class ModelUsage(Tokens):
    """Sums of a model."""

    model: str


class DayUsage(Cost):
    """Sums of an IST day."""

    date: str


class SummaryBody(TypedDict):
    """`GET /v1/usage/summary`."""

    period_days: int
    totals: Totals
    by_service: list[ServiceUsage]
    by_model: list[ModelUsage]
    series: list[DayUsage]


class LogLine(TypedDict):
    """One request; `request_id` is what `GET /v1/generation` takes."""

    id: str
    created_at: str
    service: str
    endpoint: str
    method: str
    model: str
    status_code: int
    latency_ms: int
    input_tokens: int
    output_tokens: int
    audio_seconds: float
    cost_usd: float
    credits: float
    request_id: str
    api_key_id: str | None
    error_message: str | None
    trace_id: str | None
    session_id: str | None


class PeriodBody(TypedDict):
    """From `start` up to but without `end`."""

    start: str
    end: str


class LogsBody(TypedDict):
    """`GET /v1/usage/logs`; `count` is the number of lines in this answer."""

    period: PeriodBody
    limit: int
    offset: int
    count: int
    logs: list[LogLine]


PartBody = TypedDict(
    "PartBody",
    {"class": str, "units": int, "micro_credits_per_million": int, "micro_credits": str},
)
"""`units x micro_credits_per_million / 1,000,000 = micro_credits`, exactly."""


class TransferBody(TypedDict):
    """One movement in the books."""

    id: str
    kind: str
    debit: str
    credit: str
    micro_credits: int
    reference: str
    created_at: str


class ReceiptBody(TypedDict):
    """How the charge came about: `parts` add up to `sum`, rounded up once they are `computed`."""

    price_version: str | None
    parts: list[PartBody]
    sum_micro_credits: str
    rounding_micro_credits: str
    computed_micro_credits: int
    held_micro_credits: int
    charged_micro_credits: int
    provider_loss_micro_credits: int
    settled: bool
    agrees: bool
    transfers: list[TransferBody]


class Generation(LogLine):
    """One request with its receipt."""

    provider_name: str
    upstream_model: str
    outcome: str
    finish_reason: str | None
    streamed: bool
    test: bool
    first_byte_ms: int
    attempts: int
    tokens_prompt: int
    tokens_completion: int
    tokens_cached: int
    tokens_reasoning: int
    usage_source: str
    total_cost: float
    receipt: ReceiptBody


class GenerationBody(TypedDict):
    """`GET /v1/generation`."""

    data: Generation
