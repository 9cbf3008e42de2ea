"""The receipt of one request, made for the screen: what was used times what it costs is what was charged."""

from dataclasses import dataclass, field

from api.money import PER_MILLION, rupees_text
from api.usage.receipts import Movement, Part, Receipt
from callmissed_app.states.figures import clock, count, duration, moment, rupees

NOTHING = "–"

_CLASSES = {
    "input": "Input",
    "cached": "Input, cached",
    "cache_write": "Input, written to the cache",
    "output": "Output",
}
_SOURCES = {
    "provider": "Counted by the provider",
    "estimate": "Estimated: the provider gave no count",
    "none": NOTHING,
}
_MOVES = {"hold": "Held", "settle": "Charged", "void": "Set free", "expire": "Set free"}


@dataclass
class ReceiptView:
    """Every field is text for the screen; `parts` and `moves` are rows of it."""

    id: str = ""
    model: str = ""
    cost: str = ""
    outcome: str = ""
    tone: str = "plain"
    why: str = ""
    """Why there is no whole answer; "" when there is one."""
    when: str = ""
    provider: str = ""
    endpoint: str = ""
    key: str = ""
    finish: str = ""
    latency: str = ""
    first: str = ""
    attempts: str = ""
    counted: str = ""
    reasoning: str = ""
    trace: str = ""
    price_version: str = ""
    parts: list[dict[str, str]] = field(default_factory=list)
    sum: str = ""
    computed: str = ""
    charged: str = ""
    held: str = ""
    loss: str = ""
    """What the answer cost above the charge; "" for nothing."""
    agrees: bool = True
    moves: list[dict[str, str]] = field(default_factory=list)


def view_of(receipt: Receipt, key: str) -> ReceiptView:
    """The receipt in words; `key` is the name of the key that asked."""
    log = receipt.log
    tone, outcome = outcome_of(log.outcome, log.status_code)
    return ReceiptView(
        id=log.generation_id,
        model=log.model,
        cost=rupees(receipt.charge),
        outcome=outcome,
        tone=tone,
        why=log.error_message or "",
        when=moment(log.created_at, seconds=True),
        provider=" · ".join(filter(None, (log.provider, receipt.upstream_model))) or NOTHING,
        endpoint=log.endpoint,
        key=key,
        finish=", ".join(filter(None, (log.finish_reason, "streamed" if log.streamed else "whole"))),
        latency=duration(log.latency_ms),
        first=duration(log.first_byte_ms) if log.first_byte_ms else NOTHING,
        attempts=str(receipt.attempts),
        counted=_SOURCES.get(receipt.usage_source, receipt.usage_source),
        reasoning=count(receipt.tokens.reasoning) if receipt.tokens.reasoning else "",
        trace=" · ".join(filter(None, (log.session_id, log.trace_id))),
        price_version=receipt.price_version,
        parts=[_part(part) for part in receipt.parts if part.units or part.unit_class in ("input", "output")],
        sum=exact_rupees(receipt.exact),
        computed=rupees(receipt.computed),
        charged=rupees(receipt.charge),
        held=rupees(receipt.held),
        loss=rupees(receipt.provider_loss) if receipt.provider_loss else "",
        agrees=receipt.agrees,
        moves=[_move(movement) for movement in receipt.movements],
    )


def outcome_of(outcome: str, status: int) -> tuple[str, str]:
    """The badge's tone and words for how a request ended."""
    if outcome == "ok":
        return "good", "OK"
    if outcome == "client_gone":
        return "plain", "Stopped"
    return "bad", f"{outcome.capitalize()} {status}"


def exact_rupees(millionths: int) -> str:
    """Millionths of a micro-credit to the last digit: `₹0.00235200004`."""
    whole, fraction = divmod(millionths, PER_MILLION * PER_MILLION)
    places = f"{fraction:012d}".rstrip("0").ljust(2, "0")
    return f"{rupees_text(whole * PER_MILLION, 0)}.{places}"


def _part(part: Part) -> dict[str, str]:
    return {
        "name": _CLASSES.get(part.unit_class, part.unit_class),
        "units": count(part.units),
        "price": rupees(part.price),
        "amount": exact_rupees(part.exact),
    }


def _move(movement: Movement) -> dict[str, str]:
    return {
        "kind": _MOVES.get(movement.kind, movement.kind.capitalize()),
        "way": f"{movement.debit} → {movement.credit}",
        "amount": rupees(movement.amount),
        "when": clock(movement.created_at),
    }
