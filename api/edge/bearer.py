"""From the headers of a `/v1` call to its `Caller`, without a query while the key is fresh in memory."""

from starlette.types import Scope

from api.edge.asgi import header
from api.errors import invalid_api_key
from api.gateway.services import Services
from api.types import Caller


async def caller_of(services: Services, scope: Scope) -> Caller:
    """Who calls with `Authorization: Bearer cm_…` or `x-api-key: cm_…`.

    Raises ApiError 401 for a missing, unknown, revoked or expired key, 403 for one locked to other domains or
    of an inactive account.
    """
    scheme, _, secret = header(scope, b"authorization").partition(" ")
    if scheme.lower() != "bearer":
        secret = header(scope, b"x-api-key")
    secret = secret.strip()
    if not secret:
        raise invalid_api_key()
    origin, referer = header(scope, b"origin") or None, header(scope, b"referer") or None
    cached = services.keys.cached(secret, origin=origin, referer=referer)
    return cached or await services.keys.caller(secret, origin=origin, referer=referer)
