"""Bodies of `/api/v1/keys`. Lists travel as comma-separated text; JSON lists are taken too."""

from datetime import datetime
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, model_validator

from api.edge.fields import Credits, Name, clean_text, moment_text
from api.money import credits_number, micro
from api.tenants.domains import parse_domains
from api.tenants.keys import KeyChanges, KeyDetails, NewKey
from api.tenants.permissions import SCOPES, SERVICES, parse_names, split
from api.types import DAY, Milliseconds, now

LONGEST_DAYS = 365
MOST_MODELS = 200
_Names = str | list[str]


def _permissions(value: _Names) -> str:
    return parse_names(value, SERVICES)


def _scopes(value: _Names) -> str:
    return parse_names(value, SCOPES)


def _domains(value: _Names) -> list[str]:
    return parse_domains(value)


def _models(value: _Names) -> list[str]:
    names = split(value)
    if not names or "*" in names:
        return ["*"]
    if len(names) > MOST_MODELS or any(len(name) > 200 for name in names):
        raise ValueError(f"at most {MOST_MODELS} model ids of at most 200 characters")
    return sorted(clean_text(name) for name in names)


class KeyLimits(BaseModel):
    """What a key allows. `*` is everything; null is no limit."""

    permissions: Annotated[_Names, AfterValidator(_permissions)] = "*"
    scopes: Annotated[_Names, AfterValidator(_scopes)] = ""
    allowed_domains: Annotated[_Names, AfterValidator(_domains)] = "*"
    allowed_models: Annotated[_Names, AfterValidator(_models)] = "*"
    rate_limit_rpm: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    budget_limit: Credits | None = None
    logs_enabled: bool = False
    prompt_logging_enabled: bool = False
    expires_in_days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] | None = None
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _ends_once(self) -> "KeyLimits":
        if self.expires_in_days is not None and self.expires_at is not None:
            raise ValueError("give expires_in_days or expires_at, not both")
        if self.expires_at is not None:
            left = _milliseconds(self.expires_at) - now()
            if not 0 < left <= LONGEST_DAYS * DAY:
                raise ValueError(f"expires_at must be in the future, at most {LONGEST_DAYS} days ahead")
        return self


class NewKeyBody(KeyLimits):
    """A key to be made. `test` keys reach the models of this machine only and move no money."""

    name: Name
    kind: Literal["live", "test"] = "live"


class KeyPatch(KeyLimits):
    """What is to be changed; a field that is not there stays as it is."""

    name: Name = ""


class RotateBody(BaseModel):
    """How long the earlier secrets work on."""

    overlap_hours: Annotated[int, Field(ge=0, le=168)] = 24


class KeyBody(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    kind: str
    hint: str
    permissions: str
    scopes: str
    allowed_domains: str
    is_active: bool
    logs_enabled: bool
    prompt_logging_enabled: bool
    budget_limit: float | None
    budget_used: float
    budget_remaining: float | None
    rate_limit_rpm: int | None
    allowed_models: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class SecretKeyBody(KeyBody):
    """A key and, this once, its secret."""

    key: str


class RateState(BaseModel):
    """Calls that count at this moment against the key's limits."""

    key_id: str
    window_seconds: int
    rate_limit_rpm: int
    used: int
    remaining: int
    in_flight: int
    in_flight_limit: int


def new_key_of(body: NewKeyBody) -> NewKey:
    """The key a body asks for."""
    return NewKey(
        name=body.name,
        kind=body.kind,
        permissions=str(body.permissions),
        scopes=str(body.scopes),
        allowed_domains=tuple(body.allowed_domains),
        allowed_models=tuple(body.allowed_models),
        rate_limit_rpm=body.rate_limit_rpm,
        budget_limit=None if body.budget_limit is None else micro(body.budget_limit),
        logs_enabled=body.logs_enabled,
        prompt_logging_enabled=body.prompt_logging_enabled,
        expires_at=_end(body),
    )


def changes_of(body: KeyPatch) -> KeyChanges:
    """The changes a body names."""
    everything: KeyChanges = {
        "name": body.name,
        "permissions": str(body.permissions),
        "scopes": str(body.scopes),
        "allowed_domains": list(body.allowed_domains),
        "allowed_models": list(body.allowed_models),
        "rate_limit_rpm": body.rate_limit_rpm,
        "budget_limit": None if body.budget_limit is None else micro(body.budget_limit),
        "logs_enabled": body.logs_enabled,
        "prompt_logging_enabled": body.prompt_logging_enabled,
        "expires_at": _end(body),
    }
    given = {"expires_at" if name == "expires_in_days" else name for name in body.model_fields_set}
    return cast(KeyChanges, {name: value for name, value in everything.items() if name in given})


def public(details: KeyDetails) -> KeyBody:
    """A key as it is shown."""
    limit = details.budget_limit
    return KeyBody(
        id=str(details.id),
        name=details.name,
        kind=details.kind,
        hint=details.hint,
        permissions=details.permissions,
        scopes=details.scopes,
        allowed_domains=",".join(details.allowed_domains),
        is_active=details.is_active,
        logs_enabled=details.logs_enabled,
        prompt_logging_enabled=details.prompt_logging_enabled,
        budget_limit=None if limit is None else credits_number(limit),
        budget_used=credits_number(details.budget_used),
        budget_remaining=None if limit is None else credits_number(max(0, limit - details.budget_used)),
        rate_limit_rpm=details.rate_limit_rpm,
        allowed_models=",".join(details.allowed_models),
        created_at=moment_text(details.created_at),
        expires_at=moment_text(details.expires_at),
        revoked_at=moment_text(details.revoked_at),
        last_used_at=moment_text(details.last_used_at),
    )


def with_secret(details: KeyDetails, text: str) -> SecretKeyBody:
    """A key as it is shown once."""
    return SecretKeyBody(key=text, **public(details).model_dump())


def _end(body: KeyLimits) -> Milliseconds | None:
    if body.expires_in_days is not None:
        return now() + body.expires_in_days * DAY
    return None if body.expires_at is None else _milliseconds(body.expires_at)


def _milliseconds(moment: datetime) -> Milliseconds:
    return int(moment.timestamp() * 1000)
