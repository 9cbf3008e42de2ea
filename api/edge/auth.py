"""`/api/v1/auth`: sign-up, sign-in, refresh, sign-out, and who I am.

With `?session=cookie` the answer signs the browser in by an HttpOnly cookie and carries no token; that is
for the dashboard's own pages, and only they may ask for it.
"""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Depends, Request, Response

from api.edge.auth_bodies import (
    CodeSent,
    Detail,
    LoginBody,
    LoginResponse,
    LogoutBody,
    Me,
    RefreshBody,
    RegisterBody,
    SendCodeBody,
    TenantBody,
    Tokens,
    UserBody,
    VerifyBody,
)
from api.edge.client import EVERYTHING_ELSE, device_of, limit_account, limited
from api.edge.cookies import (
    clear_session,
    require_same_origin,
    session_token,
    set_session,
    set_signup_binding,
    signup_binding,
)
from api.edge.identity import SignedIn, bearer_token, never_stored
from api.edge.roots import roots
from api.errors import ApiError
from api.gateway.services import Services
from api.money import credits_number
from api.settings import Settings
from api.tenants import registration, sessions
from api.tenants.profile import load_profile
from api.tenants.sessions import NewSession
from api.tenants.tokens import make_cookie_token, read_access_token
from api.types import now

router = APIRouter(prefix="/api/v1/auth", tags=["auth"], dependencies=[Depends(never_stored)])

SessionBy = Literal["cookie"] | None
_QUARTER_HOUR, _DAY = 900.0, 86_400.0


@router.post("/register", dependencies=[Depends(limited("register", 5))], response_model_exclude_none=True)
async def register(
    request: Request, response: Response, body: RegisterBody, session: SessionBy = None
) -> CodeSent:
    """Send a code to the address. The answer is the same whether it has an account or not."""
    services = roots(request)
    binding = _new_binding(request, response, services.settings) if session == "cookie" else ""
    await _limit_mail(services, body.email)
    file = await registration.register(
        services.database,
        services.secret,
        services.mailer,
        registration=registration.Registration(
            email=body.email,
            password=body.password,
            full_name=body.full_name,
            phone_number=body.phone_number,
            binding=binding,
        ),
    )
    return CodeSent(
        detail="Verification code sent to your email.",
        email=body.email,
        mail_file=_mail_file(services.settings, file),
    )


@router.post("/register/verify", dependencies=[Depends(limited("register/verify", 10))])
async def verify(
    request: Request, response: Response, body: VerifyBody, session: SessionBy = None
) -> LoginResponse:
    """Make the account and sign in. 400 for a code that does not work."""
    services = roots(request)
    by_cookie = _wants_cookie(request, services.settings, session)
    await limit_account(services.limiter, "code", body.email, limit=15, window_seconds=_QUARTER_HOUR)
    made = await registration.verify_registration(
        services.database,
        services.secret,
        services.settings,
        email=body.email,
        code=body.code,
        binding=signup_binding(request.scope) if by_cookie else "",
        device=device_of(request),
        by_cookie=by_cookie,
    )
    return _signed_in(response, services.settings, made)


@router.post("/otp/send", dependencies=[Depends(limited("otp/send", 5))], response_model_exclude_none=True)
async def send_code(request: Request, body: SendCodeBody, session: SessionBy = None) -> CodeSent:
    """Send another code for a sign-up that is still open. Always the same answer."""
    services = roots(request)
    by_cookie = _wants_cookie(request, services.settings, session)
    await _limit_mail(services, body.email)
    file = await registration.resend(
        services.database,
        services.secret,
        services.mailer,
        email=body.email,
        binding=signup_binding(request.scope) if by_cookie else "",
    )
    return CodeSent(
        detail="If an account exists, a code has been sent.", mail_file=_mail_file(services.settings, file)
    )


@router.post("/login", dependencies=[Depends(limited("login", 10))])
async def login(
    request: Request, response: Response, body: LoginBody, session: SessionBy = None
) -> LoginResponse:
    """Sign in. The same 401 after the same time for an unknown address and a wrong password."""
    services = roots(request)
    by_cookie = _wants_cookie(request, services.settings, session)
    bucket = await limit_account(
        services.limiter, "password", body.email, limit=10, window_seconds=_QUARTER_HOUR
    )
    made = await sessions.sign_in(
        services.database,
        services.secret,
        email=body.email,
        password=body.password,
        device=device_of(request),
        by_cookie=by_cookie,
    )
    await services.limiter.give_back(bucket, _QUARTER_HOUR)  # only wrong passwords count
    return _signed_in(response, services.settings, made)


@router.post("/refresh", dependencies=[Depends(limited("refresh", 10))])
async def refresh(request: Request, body: RefreshBody) -> Tokens:
    """Spend a refresh token for new tokens. One that was spent before ends every session of its person."""
    services = roots(request)
    made = await sessions.refresh(services.database, services.secret, refresh_token=body.refresh_token)
    return Tokens(access_token=made.access_token, refresh_token=made.refresh_token)


@router.post("/logout", dependencies=[Depends(limited("logout", 10))])
async def logout(request: Request, response: Response, body: LogoutBody | None = None) -> Detail:
    """End the session of the refresh token, the cookie or the access token; nothing when it has ended."""
    services = roots(request)
    token = bearer_token(request)
    cookie = session_token(request.scope, services.settings)
    if cookie:
        require_same_origin(request.scope, services.settings)
        clear_session(response, services.settings)
    await sessions.sign_out(
        services.database,
        services.secret,
        refresh_token=body.refresh_token if body else None,
        cookie_token=cookie or None,
    )
    if token is not None:
        await _end_session_of(services, token)
    return Detail(detail="Logged out")


@router.get("/me", dependencies=[Depends(limited("api", EVERYTHING_ELSE))])
async def me(request: Request, caller: SignedIn) -> Me:
    """The signed-in person and the organization."""
    profile = await load_profile(roots(request).database, caller)
    return Me(
        user=UserBody(
            id=str(profile.user_id),
            tenant_id=str(profile.tenant_id),
            email=profile.email,
            full_name=profile.full_name,
            phone_number=profile.phone_number,
            role=profile.role,
            is_active=profile.is_active,
        ),
        tenant=TenantBody(
            id=str(profile.tenant_id),
            name=profile.tenant_name,
            slug=profile.tenant_slug,
            plan=profile.plan,
            credit_balance=credits_number(profile.credit_balance),
            is_active=profile.tenant_is_active,
        ),
    )


def _wants_cookie(request: Request, settings: Settings, session: SessionBy) -> bool:
    """Whether the browser is to be signed in by cookie. Raises 403 unless our own page asks for it."""
    if session == "cookie":
        require_same_origin(request.scope, settings)
    return session == "cookie"


def _new_binding(request: Request, response: Response, settings: Settings) -> str:
    require_same_origin(request.scope, settings)
    binding = make_cookie_token()
    set_signup_binding(response, settings, binding)
    return binding


async def _limit_mail(services: Services, email: str) -> None:
    """At most 3 mails in 10 minutes and 10 a day to one address, whoever asks for them."""
    await limit_account(services.limiter, "mail", email, limit=3, window_seconds=600.0)
    await limit_account(services.limiter, "mail", email, limit=10, window_seconds=_DAY)


async def _end_session_of(services: Services, token: str) -> None:
    try:
        claims = read_access_token(services.secret, token, now=now())
    except ApiError:
        return
    await sessions.end_session(services.database, tenant_id=claims.tenant_id, session_id=claims.session_id)


def _signed_in(response: Response, settings: Settings, made: NewSession) -> LoginResponse:
    if made.cookie_token is not None:
        set_session(response, settings, made.cookie_token)
    return LoginResponse(
        access_token=made.access_token,
        refresh_token=made.refresh_token,
        email=made.email,
        is_new_user=made.is_new_user,
    )


def _mail_file(settings: Settings, file: Path | None) -> str | None:
    """The mail's file for the sign-up page, only where whoever asks sits at this very machine."""
    return str(file) if file is not None and settings.is_loopback else None
