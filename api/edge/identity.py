"""Who is signed in: an access token in `Authorization`, or the session cookie. Never an API key."""

from typing import Annotated

from fastapi import Depends, Request, Response

from api.edge.cookies import require_same_origin, session_token
from api.edge.roots import roots
from api.errors import ApiError
from api.tenants.signed_in import SessionCaller, caller_of_access_token, caller_of_cookie
from api.tenants.tokens import not_signed_in, token_hash

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def bearer_token(request: Request) -> str | None:
    """The token in `Authorization: Bearer …`; None without that header.

    Raises 401 for another scheme and for an API key: keys are for `/v1`.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise not_signed_in()
    if token.startswith("cm_"):
        raise ApiError(401, "invalid_token", "API keys do not work here. Sign in to the dashboard.")
    return token


async def signed_in(request: Request) -> SessionCaller:
    """The signed-in person.

    Raises 401; 403 `origin_not_allowed` when a cookie would write for a page that is not ours.
    """
    services = roots(request)
    token = bearer_token(request)
    if token is not None:
        return await caller_of_access_token(services.database, services.secret, token)
    cookie = session_token(request.scope, services.settings)
    if not cookie:
        raise not_signed_in()
    if request.method not in _READS:
        require_same_origin(request.scope, services.settings)
    caller = await caller_of_cookie(services.database, token_hash(cookie))
    if caller is None:
        raise not_signed_in()
    return caller


SignedIn = Annotated[SessionCaller, Depends(signed_in)]


def never_stored(response: Response) -> None:
    """What belongs to one person is kept by no cache."""
    response.headers["Cache-Control"] = "no-store"
