"""An API key as the list and its details show it."""

from dataclasses import dataclass

from api.tenants.keys import KeyDetails
from api.tenants.permissions import SERVICES, split
from api.types import DAY, Milliseconds
from callmissed_app.states.figures import ago, count, day, moment, plural, rupees
from callmissed_app.states.key_form import READS_USAGE

_SERVICE_NAMES = {
    "llm": "Chat",
    "stt": "Speech to text",
    "tts": "Text to speech",
    "search": "Search",
    "image": "Images",
}


@dataclass
class KeyRow:
    """A key in words. `tone` is one of the badge's."""

    id: str = ""
    name: str = ""
    hint: str = ""
    test: bool = False
    active: bool = False
    status: str = ""
    tone: str = "plain"
    allows: str = ""
    """Services and models in one line."""
    services: str = ""
    models: str = ""
    domains: str = ""
    reads_usage: bool = False
    rpm: str = ""
    budget: str = ""
    budget_hint: str = ""
    share: str = ""
    """How much of the budget is gone, `43%`; "" without one."""
    last_used: str = ""
    expires: str = ""
    created: str = ""


def row_of(key: KeyDetails, now: Milliseconds) -> KeyRow:
    """The key as it is at `now`."""
    status, tone = _status(key, now)
    services = _services(key.permissions)
    everything = "Models of this server" if key.kind == "test" else "All models"
    models = everything if "*" in key.allowed_models else ", ".join(key.allowed_models)
    number = len(key.allowed_models)
    some = models if number == 1 else plural(number, "model")
    return KeyRow(
        id=str(key.id),
        name=key.name,
        hint=key.hint,
        test=key.kind == "test",
        active=key.is_active,
        status=status,
        tone=tone,
        allows=f"{services} · {some}",
        services=services,
        models=models,
        domains="Any, and servers" if "*" in key.allowed_domains else ", ".join(key.allowed_domains),
        reads_usage=bool(split(key.scopes) & {READS_USAGE, "*"}),
        rpm=count(key.effective_rpm) + (" (plan)" if key.rate_limit_rpm is None else ""),
        budget="No limit" if key.budget_limit is None else f"of {rupees(key.budget_limit)}",
        budget_hint="" if key.budget_limit is None else rupees(key.budget_used),
        share=_share(key),
        last_used=ago(key.last_used_at, now),
        expires=day(key.expires_at) if key.expires_at else "Never",
        created=moment(key.created_at),
    )


def first_model(key: KeyDetails, models: list[str]) -> str:
    """The first of `models` that the key may ask, for an example; `auto` when it is none of them."""
    if "*" not in key.allowed_models:
        models = [name for name in models if name in key.allowed_models] or list(key.allowed_models)
    if key.kind == "test":
        models = [name for name in models if name.startswith("local/")]
    return next(iter(models), "auto")


def _status(key: KeyDetails, now: Milliseconds) -> tuple[str, str]:
    if key.revoked_at is not None:
        return "Revoked", "plain"
    if key.expires_at is not None and key.expires_at <= now:
        return "Expired", "plain"
    if key.budget_limit is not None and key.budget_used >= key.budget_limit:
        return "Budget used up", "bad"
    if key.expires_at is not None and key.expires_at - now < 7 * DAY:
        return "Expires soon", "warn"
    return "Active", "good"


def _services(permissions: str) -> str:
    names = split(permissions)
    if "*" in names or names == SERVICES:
        return "Everything"
    return ", ".join(label for name, label in _SERVICE_NAMES.items() if name in names)


def _share(key: KeyDetails) -> str:
    if key.budget_limit is None:
        return ""
    return f"{min(100, 100 * key.budget_used // max(1, key.budget_limit))}%"
