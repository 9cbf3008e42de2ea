"""Bodies of `/api/v1/auth`."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from api.edge.fields import EmailAddress, Line, Name


class RegisterBody(BaseModel):
    """What a person fills in to sign up."""

    full_name: Name
    email: EmailAddress
    password: Annotated[str, Field(min_length=8, max_length=72)]
    phone_number: Annotated[Line, Field(max_length=20)] = ""
    accept_terms: bool
    cf_turnstile_token: Annotated[str, Field(max_length=2048)] | None = None
    """Taken and not checked: no captcha is set up."""

    @field_validator("accept_terms")
    @classmethod
    def _accepted(cls, value: bool) -> bool:
        if not value:
            raise ValueError("the terms must be accepted")
        return value


class VerifyBody(BaseModel):
    """The code that came by mail."""

    email: EmailAddress
    code: Annotated[str, Field(pattern=r"^[0-9]{6}$")]


class SendCodeBody(BaseModel):
    """Where another code shall go."""

    email: EmailAddress
    purpose: Literal["register"]
    cf_turnstile_token: Annotated[str, Field(max_length=2048)] | None = None


class LoginBody(BaseModel):
    """An address and its password."""

    email: EmailAddress
    password: Annotated[str, Field(min_length=1, max_length=72)]


class RefreshBody(BaseModel):
    """The token to be spent for new ones."""

    refresh_token: Annotated[str, Field(min_length=10, max_length=2048)]


class LogoutBody(BaseModel):
    """The session to be ended; the cookie or the access token may name it instead."""

    refresh_token: Annotated[str, Field(max_length=2048)] | None = None


class CodeSent(BaseModel):
    """The answer of every sign-up, whether the address has an account or not."""

    detail: str
    email: str | None = None
    mail_file: str | None = None
    """Where the mail is, on a machine that sends none and serves only itself."""


class LoginResponse(BaseModel):
    """A sign-in. The tokens are null when a cookie carries it."""

    access_token: str | None
    refresh_token: str | None
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    two_factor_required: bool = False
    challenge_token: str | None = None
    email: str | None = None
    methods: list[Literal["totp", "passkey"]] = []
    passkey_options: dict[str, object] | None = None
    is_new_user: bool = False


class Tokens(BaseModel):
    """Fresh tokens; the refresh token they were got with is spent."""

    access_token: str | None
    refresh_token: str | None
    token_type: Literal["bearer"] = "bearer"  # noqa: S105


class Detail(BaseModel):
    """A sentence."""

    detail: str


class UserBody(BaseModel):
    """A person."""

    id: str
    tenant_id: str
    email: str
    full_name: str
    phone_number: str
    role: str
    is_active: bool


class TenantBody(BaseModel):
    """An organization; `credit_balance` is in credits."""

    id: str
    name: str
    slug: str
    plan: str
    credit_balance: float
    is_active: bool


class Me(BaseModel):
    """The signed-in person and the organization."""

    user: UserBody
    tenant: TenantBody
