"""Where a request comes from, and how often it may."""

import math
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

from fastapi import Request
from starlette.types import Scope

from api.edge.roots import roots
from api.errors import ApiError, too_many
from api.gateway.rate_limit import Limiter
from api.tenants.sessions import Device
from api.tenants.tokens import token_hash

EVERYTHING_ELSE = 200
"""Requests a minute from one address to the routes that have no limit of their own."""


def client_ip(scope: Scope, *, trusted_hops: int) -> str:
    """The address of who asks; what `X-Forwarded-For` says counts only for `trusted_hops` proxies of ours.

    Each proxy appends the address it was called from, so of n entries that our own proxies wrote the first
    is the client. Anything before them is the client's own word and is never read.
    """
    peer = scope.get("client")
    address = peer[0] if peer else ""
    if trusted_hops:
        said = b",".join(value for key, value in scope["headers"] if key == b"x-forwarded-for")
        hops = [hop.strip() for hop in said.decode("latin-1").split(",") if hop.strip()]
        if len(hops) >= trusted_hops:
            address = hops[-trusted_hops]
    try:
        return str(ip_address(address.strip("[]")))
    except ValueError:
        return str(peer[0])[:45] if peer else "unknown"


def network_of(address: str) -> str:
    """What one customer line has: an IPv4 address, or the 64-bit network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False).network_address)


def device_of(request: Request) -> Device:
    """What a session row remembers of who signed in."""
    said = request.headers.get("user-agent", "")[:255]
    return Device(
        ip=client_ip(request.scope, trusted_hops=roots(request).settings.trusted_proxy_hops),
        user_agent="".join(character for character in said if character.isprintable()),
    )


def limited(route: str, per_minute: int) -> Callable[[Request], Awaitable[None]]:
    """A dependency that admits one address `per_minute` times in any 60 seconds; then 429."""

    async def check(request: Request) -> None:
        services = roots(request)
        address = client_ip(request.scope, trusted_hops=services.settings.trusted_proxy_hops)
        wait = await services.limiter.take(f"ip:{route}:{network_of(address)}", per_minute)
        if wait > 0:
            raise _too_often(wait)

    return check


async def limit_account(
    limiter: Limiter, action: str, email: str, *, limit: int, window_seconds: float
) -> str:
    """Count one `action` on an address, whether it has an account or not; the bucket it was counted in.

    Raises 429 when the address is out of tries.
    """
    bucket = f"{action}:{token_hash(email)[:32]}"
    wait = await limiter.take(bucket, limit, window_seconds)
    if wait > 0:
        raise _too_often(wait)
    return bucket


def _too_often(wait: float) -> ApiError:
    seconds = math.ceil(wait)
    return too_many(
        "rate_limit_exceeded", f"Too many requests. Try again in {seconds} seconds.", retry_after=seconds
    )
