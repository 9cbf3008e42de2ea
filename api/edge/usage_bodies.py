"""What the usage API says of reports, log lines and receipts.

Dollars are 0.01 a credit; `credits` stands beside every `cost_usd`. Tokens in are all of the prompt's, cached
or not, as the answer's own `usage` counted them.
"""

from api.edge.usage_shapes import Cost, GenerationBody, LogLine, LogsBody, ReceiptBody, SummaryBody, Tokens
from api.money import PER_MILLION, credits_number
from api.usage.export import METHOD, moment_text
from api.usage.logs import Filters, LogRow
from api.usage.receipts import Receipt
from api.usage.reports import Figures, Summary


def summary_body(summary: Summary) -> SummaryBody:
    """The answer of `GET /v1/usage/summary`."""
    totals, latency = summary.totals, summary.latency
    return {
        "period_days": summary.period_days,
        "totals": {
            "total_requests": totals.requests,
            "success": totals.success,
            "errors": totals.errors,
            "success_rate": round(totals.success_rate or 0.0, 6),
            "total_cost_usd": usd_number(totals.charge),
            "total_credits": credits_number(totals.charge),
            "total_input_tokens": totals.input_tokens,
            "total_output_tokens": totals.output_tokens,
            "total_audio_seconds": 0.0,
            "avg_latency_ms": latency.average or 0,
            "p50_latency_ms": latency.p50 or 0,
            "p95_latency_ms": latency.p95 or 0,
        },
        "by_service": [{"service": name, **_tokens(figures)} for name, figures in summary.by_service],
        "by_model": [{"model": name, **_tokens(figures)} for name, figures in summary.by_model],
        "series": [{"date": day, **_cost(figures)} for day, figures in summary.series],
    }


def logs_body(filters: Filters, limit: int, offset: int, rows: list[LogRow]) -> LogsBody:
    """The answer of `GET /v1/usage/logs`."""
    period = filters.period
    return {
        "period": {"start": moment_text(period.start), "end": moment_text(period.end)},
        "limit": limit,
        "offset": offset,
        "count": len(rows),
        "logs": [log_line(row) for row in rows],
    }


def generation_body(receipt: Receipt) -> GenerationBody:
    """The answer of `GET /v1/generation`."""
    log, tokens = receipt.log, receipt.tokens
    return {
        "data": {
            **log_line(log),
            "id": log.generation_id,
            "provider_name": log.provider,
            "upstream_model": receipt.upstream_model,
            "outcome": log.outcome,
            "finish_reason": log.finish_reason or None,
            "streamed": log.streamed,
            "test": not log.live,
            "first_byte_ms": log.first_byte_ms,
            "attempts": receipt.attempts,
            "tokens_prompt": log.input_tokens,
            "tokens_completion": log.output_tokens,
            "tokens_cached": tokens.cached,
            "tokens_reasoning": tokens.reasoning,
            "usage_source": receipt.usage_source,
            "total_cost": usd_number(log.charge),
            "receipt": _receipt_body(receipt),
        }
    }


def log_line(row: LogRow) -> LogLine:
    """One line of the log as it is shown."""
    return {
        "id": str(row.id),
        "created_at": moment_text(row.created_at),
        "service": row.service,
        "endpoint": row.endpoint,
        "method": METHOD,
        "model": row.model,
        "status_code": row.status_code,
        "latency_ms": row.latency_ms,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "audio_seconds": 0.0,
        "cost_usd": usd_number(row.charge),
        "credits": credits_number(row.charge),
        "request_id": row.generation_id,
        "api_key_id": str(row.api_key_id) if row.api_key_id else None,
        "error_message": row.error_message,
        "trace_id": row.trace_id or None,
        "session_id": row.session_id or None,
    }


def usd_number(amount: int) -> float:
    """`amount` micro-credits as the JSON number of dollars; for display, never for arithmetic."""
    return amount / 100_000_000


def _receipt_body(receipt: Receipt) -> ReceiptBody:
    return {
        "price_version": receipt.price_version or None,
        "parts": [
            {
                "class": part.unit_class,
                "units": part.units,
                "micro_credits_per_million": part.price,
                "micro_credits": _exact(part.exact),
            }
            for part in receipt.parts
        ],
        "sum_micro_credits": _exact(receipt.exact),
        "rounding_micro_credits": _exact(receipt.rounding),
        "computed_micro_credits": receipt.computed,
        "held_micro_credits": receipt.held,
        "charged_micro_credits": receipt.charge,
        "provider_loss_micro_credits": receipt.provider_loss,
        "settled": receipt.settled,
        "agrees": receipt.agrees,
        "transfers": [
            {
                "id": str(movement.id),
                "kind": movement.kind,
                "debit": movement.debit,
                "credit": movement.credit,
                "micro_credits": movement.amount,
                "reference": movement.reference,
                "created_at": moment_text(movement.created_at),
            }
            for movement in receipt.movements
        ],
    }


def _exact(millionths: int) -> str:
    whole, fraction = divmod(millionths, PER_MILLION)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def _cost(figures: Figures) -> Cost:
    return {
        "requests": figures.requests,
        "cost_usd": usd_number(figures.charge),
        "credits": credits_number(figures.charge),
    }


def _tokens(figures: Figures) -> Tokens:
    return {
        **_cost(figures),
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
    }
