"""`/api/v1/keys`: API keys, for signed-in owners and admins. The plaintext is in the answer that makes it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Request, Response

from api.edge.client import EVERYTHING_ELSE, limited
from api.edge.identity import SignedIn, never_stored
from api.edge.key_bodies import (
    KeyBody,
    KeyPatch,
    NewKeyBody,
    RateState,
    RotateBody,
    SecretKeyBody,
    changes_of,
    new_key_of,
    public,
    with_secret,
)
from api.edge.roots import roots
from api.tenants import keys

WINDOW_SECONDS = 60.0

router = APIRouter(
    prefix="/api/v1/keys",
    tags=["keys"],
    dependencies=[Depends(limited("api", EVERYTHING_ELSE)), Depends(never_stored)],
)


@router.get("")
async def list_keys(request: Request, caller: SignedIn) -> list[KeyBody]:
    """Every key of the organization, newest first."""
    return [public(details) for details in await keys.list_keys(roots(request).database, caller)]


@router.post("", status_code=201)
async def create_key(request: Request, caller: SignedIn, body: NewKeyBody) -> SecretKeyBody:
    """A new key; `key` is its plaintext, shown this once."""
    services = roots(request)
    details, text = await keys.create_key(services.database, services.secret, caller, new_key_of(body))
    return with_secret(details, text)


@router.get("/{key_id}")
async def get_key(request: Request, caller: SignedIn, key_id: UUID) -> KeyBody:
    """One key. 404 when the organization has none of that id."""
    return public(await keys.get_key(roots(request).database, caller, key_id))


@router.patch("/{key_id}")
async def update_key(request: Request, caller: SignedIn, key_id: UUID, body: KeyPatch) -> KeyBody:
    """Change what the body names, in force within a second; null takes a limit away."""
    services = roots(request)
    details = await keys.update_key(services.database, caller, key_id, changes_of(body))
    services.keys.forget(key_id)
    return public(details)


@router.delete("/{key_id}", status_code=204)
async def delete_key(request: Request, caller: SignedIn, key_id: UUID) -> Response:
    """End the key and forget it; its usage stays."""
    services = roots(request)
    await keys.delete_key(services.database, caller, key_id)
    services.keys.forget(key_id)
    return Response(status_code=204)


@router.post("/{key_id}/rotate")
async def rotate_key(
    request: Request,
    caller: SignedIn,
    key_id: UUID,
    body: Annotated[RotateBody, Body(default_factory=RotateBody)],
) -> SecretKeyBody:
    """A new secret for the same key; the earlier ones work on for `overlap_hours`."""
    services = roots(request)
    details, text = await keys.rotate_key(
        services.database, services.secret, caller, key_id, overlap_hours=body.overlap_hours
    )
    services.keys.forget(key_id)
    return with_secret(details, text)


@router.post("/{key_id}/revoke")
async def revoke_key(request: Request, caller: SignedIn, key_id: UUID) -> KeyBody:
    """End the key for good, within a second; calls already running are not cut."""
    services = roots(request)
    details = await keys.revoke_key(services.database, caller, key_id)
    services.keys.forget(key_id)
    return public(details)


@router.get("/{key_id}/rate-state")
async def rate_state(request: Request, caller: SignedIn, key_id: UUID) -> RateState:
    """How much of the key's limits is used at this moment."""
    services = roots(request)
    details = await keys.get_key(services.database, caller, key_id)
    bucket = f"key:{key_id}"
    used = await services.limiter.used(bucket, WINDOW_SECONDS)
    return RateState(
        key_id=str(key_id),
        window_seconds=int(WINDOW_SECONDS),
        rate_limit_rpm=details.effective_rpm,
        used=used,
        remaining=max(0, details.effective_rpm - used),
        in_flight=await services.limiter.in_flight(bucket),
        in_flight_limit=caller.in_flight_limit,
    )
