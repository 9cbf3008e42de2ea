"""What the form of an API key says, as values; and what is wrong with it, in sentences beside the fields."""

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypedDict

from api.money import credits_text, micro
from api.tenants.domains import parse_domains
from api.tenants.keys import KeyChanges, KeyDetails
from api.tenants.permissions import SERVICES, split
from api.types import DAY, Milliseconds
from callmissed_app.states.figures import day

READS_USAGE = "usage:read"
MOST_RPM = 1_000_000_000
MOST_CREDITS = 1_000_000_000
MOST_MODELS = 200

OVERLAPS = (("0", "At once"), ("1", "After 1 hour"), ("24", "After 24 hours"), ("168", "After 7 days"))
"""Hours that an old secret works on, in words."""

_DAYS = re.compile(r"[1-9][0-9]{0,2}")
_FILLERS = re.compile(r"[₹,\s]")


class KeyForm(TypedDict):
    """The fields as the browser sends them; a list holds the boxes that are ticked."""

    name: str
    kind: str
    expiry: str
    budget: str
    rpm: str
    domains: str
    permission: list[str]
    model: list[str]
    reads_usage: bool


@dataclass
class Draft:
    """What the form starts with."""

    id: str = ""
    """"" for a new key."""
    name: str = ""
    kind: str = "live"
    ends: str = ""
    """Its end in words, "" for none."""
    budget: str = ""
    rpm: str = ""
    domains: str = ""
    permissions: list[str] = field(default_factory=lambda: sorted(SERVICES))
    models: list[str] = field(default_factory=list)
    """Empty: all."""
    reads_usage: bool = False


class WrongFields(Exception):
    """The form cannot be taken; `.sentences` says why, by field."""

    def __init__(self, sentences: dict[str, str]) -> None:
        super().__init__("; ".join(sentences.values()))
        self.sentences = sentences


def draft_of(key: KeyDetails) -> Draft:
    """The form of a key as it is."""
    allowed = split(key.permissions)
    return Draft(
        id=str(key.id),
        name=key.name,
        kind=key.kind,
        ends=day(key.expires_at) if key.expires_at else "",
        budget="" if key.budget_limit is None else credits_text(key.budget_limit),
        rpm="" if key.rate_limit_rpm is None else str(key.rate_limit_rpm),
        domains="" if "*" in key.allowed_domains else ", ".join(key.allowed_domains),
        permissions=sorted(SERVICES if "*" in allowed else allowed),
        models=[] if "*" in key.allowed_models else list(key.allowed_models),
        reads_usage=bool(split(key.scopes) & {READS_USAGE, "*"}),
    )


def kind_of(form: KeyForm) -> Literal["live", "test"]:
    """What sort of key is asked for."""
    return "test" if form.get("kind") == "test" else "live"


def changes_of(form: KeyForm, *, scopes: str, now: Milliseconds) -> KeyChanges:
    """What the form says of a key whose scopes were `scopes`; its end only when one was chosen.

    Raises WrongFields, all that is wrong at once.
    """
    wrong: dict[str, str] = {}

    def take(name: str, read: Any) -> Any:
        try:
            return read(form.get(name))
        except ValueError as error:
            wrong[name] = str(error)

    others = split(scopes) - {READS_USAGE, "*"}
    changes: KeyChanges = {
        "name": take("name", _name),
        "permissions": take("permission", _permissions),
        "scopes": ",".join(sorted(others | ({READS_USAGE} if form.get("reads_usage") else set()))),
        "allowed_domains": take("domains", _domains),
        "allowed_models": take("model", _models),
        "rate_limit_rpm": take("rpm", _rpm),
        "budget_limit": take("budget", _budget),
    }
    if form.get("expiry") not in (None, "", "keep"):
        days = take("expiry", _days)
        changes["expires_at"] = now + days * DAY if days else None
    if wrong:
        raise WrongFields(wrong)
    return changes


def _name(value: Any) -> str:
    text = str(value or "").strip()
    if not text:
        raise ValueError("Give it a name, such as where it will be used.")
    if len(text) > 255 or not text.isprintable():
        raise ValueError("At most 255 characters on one line.")
    return text


def _permissions(value: Any) -> str:
    names = _texts(value) & SERVICES
    if not names:
        raise ValueError("Allow at least one.")
    return "*" if names == SERVICES else ",".join(sorted(names))


def _domains(value: Any) -> list[str]:
    try:
        return parse_domains(re.split(r"[\s,]+", str(value or "")))
    except ValueError as error:
        raise ValueError(f"{error}.".capitalize()) from None


def _rpm(value: Any) -> int | None:
    text = _FILLERS.sub("", str(value or ""))
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= MOST_RPM):
        raise ValueError("A whole number of at least 1.")
    return int(text)


def _budget(value: Any) -> int | None:
    text = _FILLERS.sub("", str(value or ""))
    if not text:
        return None
    try:
        credits = Decimal(text)
    except InvalidOperation:
        raise ValueError("An amount in rupees, such as 500.") from None
    if not credits.is_finite() or not 0 <= credits <= MOST_CREDITS:
        raise ValueError("An amount from 0 to 100 crore.")
    return micro(credits)


def _days(value: Any) -> int:
    if value == "never":
        return 0
    if not isinstance(value, str) or not _DAYS.fullmatch(value) or int(value) > 365:
        raise ValueError("From 1 to 365 days.")
    return int(value)


def _models(value: Any) -> list[str]:
    names = _texts(value)
    if len(names) > MOST_MODELS or any(len(name) > 200 or not name.isprintable() for name in names):
        raise ValueError(f"At most {MOST_MODELS} models.")
    return sorted(names) or ["*"]


def _texts(value: Any) -> frozenset[str]:
    items = value if isinstance(value, list) else []
    return frozenset(item for item in items if isinstance(item, str))
