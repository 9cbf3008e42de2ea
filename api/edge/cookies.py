"""The session cookie: its name, how it is set and read, and who may use it.

The dashboard's server never sees the token: `scrub_cookie` swaps it for its SHA-256, which opens nothing.
"""

from starlette.responses import Response
from starlette.types import Scope

from api.edge.asgi import INDEX, header
from api.errors import forbidden
from api.settings import Settings
from api.tenants.tokens import token_hash

LONGEST_SECONDS = 30 * 86_400
"""The browser keeps it as long as a session can last; the server ends it after 24 idle hours."""

SIGNUP_COOKIE = "callmissed-signup"
SIGNUP_PATH = "/api/v1/auth"
SIGNUP_SECONDS = 3_600


def cookie_name(settings: Settings) -> str:
    """`__Host-callmissed` where people come over TLS, `callmissed` on a plain-HTTP loopback."""
    return "__Host-callmissed" if settings.is_https else "callmissed"


def read_cookie(cookie_header: str, name: str) -> str:
    """The first value of the cookie in a `Cookie` header; "" when there is none."""
    for pair in cookie_header.split(";"):
        key, separator, value = pair.partition("=")
        if separator and key.strip() == name:
            return value.strip().strip('"')
    return ""


def session_token(scope: Scope, settings: Settings) -> str:
    """The token in the session cookie of a request; "" when there is none."""
    return read_cookie(_cookie_header(scope), cookie_name(settings))


def signup_binding(scope: Scope) -> str:
    """What ties a code to the browser that asked for it; "" when there is none."""
    return read_cookie(_cookie_header(scope), SIGNUP_COOKIE)


def set_session(response: Response, settings: Settings, token: str) -> None:
    """Sign the browser in: HttpOnly, same-site, and only over TLS where there is TLS."""
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=LONGEST_SECONDS,
        path="/",
        secure=settings.is_https,
        httponly=True,
        samesite="lax",
    )


def clear_session(response: Response, settings: Settings) -> None:
    """Sign the browser out."""
    response.delete_cookie(
        cookie_name(settings), path="/", secure=settings.is_https, httponly=True, samesite="lax"
    )


def set_signup_binding(response: Response, settings: Settings, binding: str) -> None:
    """Tie the codes of this sign-up to the browser."""
    response.set_cookie(
        SIGNUP_COOKIE,
        binding,
        max_age=SIGNUP_SECONDS,
        path=SIGNUP_PATH,
        secure=settings.is_https,
        httponly=True,
        samesite="strict",
    )


def is_same_origin(scope: Scope, settings: Settings) -> bool:
    """Whether the page that asks is ours; a missing and a `null` `Origin` are not."""
    return header(scope, b"origin").lower() in {origin.lower() for origin in settings.origins}


def require_same_origin(scope: Scope, settings: Settings) -> None:
    """Raise 403 unless the page that asks is ours: only our own pages may write with a cookie."""
    if not is_same_origin(scope, settings):
        raise forbidden("origin_not_allowed", "This request must come from the dashboard's own pages.")


def check_socket_origin(scope: Scope, settings: Settings) -> bool:
    """Whether the dashboard's socket may be opened: the `Origin` that browsers send must be ours."""
    return is_same_origin(scope, settings)


def scrub_cookie(scope: Scope, settings: Settings) -> Scope:
    """The scope, of a request or a socket, with the session cookie's token replaced by its SHA-256 (hex)."""
    name = cookie_name(settings)
    headers = [
        (key, _scrubbed(value.decode("latin-1"), name).encode("latin-1") if key == b"cookie" else value)
        for key, value in scope["headers"]
    ]
    return {**scope, "headers": headers, INDEX: dict(reversed(headers))}


def _scrubbed(cookie_header: str, name: str) -> str:
    pairs = []
    for pair in cookie_header.split(";"):
        key, separator, value = pair.strip().partition("=")
        if separator and key.strip() == name:
            value = token_hash(value.strip().strip('"'))
        pairs.append(f"{key}{separator}{value}")
    return "; ".join(pairs)


def _cookie_header(scope: Scope) -> str:
    return "; ".join(value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie")
