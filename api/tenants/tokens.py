"""The texts a signed-in person carries: access token (JWT), refresh token, cookie token.

A refresh token names its session and is sealed by us, so that one that was rotated away is told from a
forgery however long ago that was.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey

from api.errors import ApiError
from api.tenants.secrets import derive
from api.types import Milliseconds

ACCESS_LIFETIME: Milliseconds = 24 * 3_600_000
_REFRESH_PREFIX = "cmr_"
_ISSUED_SIZE, _SEAL_SIZE = 40, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessClaims:
    """Who an access token speaks for, and in which sign-in."""

    user_id: UUID
    tenant_id: UUID
    session_id: UUID


def make_access_token(secret: bytes, claims: AccessClaims, *, now: Milliseconds) -> str:
    """A signed HS256 token that is good for 24 hours."""
    issued = now // 1000
    return jwt.encode(
        {"alg": "HS256", "typ": "JWT"},
        {
            "sub": str(claims.user_id),
            "tid": str(claims.tenant_id),
            "sid": str(claims.session_id),
            "iat": issued,
            "exp": issued + ACCESS_LIFETIME // 1000,
        },
        _signing_key(secret),
    )


def read_access_token(secret: bytes, token: str, *, now: Milliseconds) -> AccessClaims:
    """The claims of a token we signed. Raises 401 `token_expired` past its end, 401 for anything else."""
    registry = jwt.JWTClaimsRegistry(
        now=now // 1000, leeway=0, exp={"essential": True}, sub={"essential": True}
    )
    try:
        claims = jwt.decode(token, _signing_key(secret), algorithms=["HS256"]).claims
        registry.validate(claims)
        return AccessClaims(
            user_id=UUID(claims["sub"]), tenant_id=UUID(claims["tid"]), session_id=UUID(claims["sid"])
        )
    except ExpiredTokenError:
        raise ApiError(401, "token_expired", "Your session token has expired. Refresh it.") from None
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        raise not_signed_in() from None


def make_refresh_token(secret: bytes, session_id: UUID) -> str:
    """A fresh refresh token of the session."""
    issued = session_id.bytes + secrets.token_bytes(_ISSUED_SIZE - 16)
    return _REFRESH_PREFIX + base64.urlsafe_b64encode(issued + _seal(secret, issued)).decode().rstrip("=")


def session_of_refresh_token(secret: bytes, token: str) -> UUID | None:
    """The session a refresh token of ours was made for; None when we never made it."""
    body = token.removeprefix(_REFRESH_PREFIX)
    if body == token:
        return None
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    issued, seal = raw[:_ISSUED_SIZE], raw[_ISSUED_SIZE:]
    if len(raw) != _ISSUED_SIZE + _SEAL_SIZE or not hmac.compare_digest(seal, _seal(secret, issued)):
        return None
    return UUID(bytes=issued[:16])


def make_cookie_token() -> str:
    """A fresh opaque token of 256 random bits."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored of a refresh or cookie token: SHA-256 in hex; it has too many bits to be guessed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def not_signed_in() -> ApiError:
    """The one answer to a missing, forged, revoked or foreign credential of a person."""
    return ApiError(401, "invalid_token", "Not signed in.", headers={"WWW-Authenticate": "Bearer"})


@lru_cache(maxsize=8)
def _signing_key(secret: bytes) -> OctKey:
    return OctKey.import_key(derive(secret, b"access-tokens"))


def _seal(secret: bytes, issued: bytes) -> bytes:
    return hmac.digest(derive(secret, b"refresh-tokens"), issued, "sha256")[:_SEAL_SIZE]
