"""Every route of an app as its router has it, and a request to each that gets as far as the caller may."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from starlette.routing import BaseRoute

WEBSOCKET = "WEBSOCKET"


@dataclass(frozen=True, order=True)
class Endpoint:
    """A method and a path with its parameters in braces."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def walk(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[Endpoint]:
    """All of them, in mounts and included routers too. Raises AssertionError for a kind it does not know."""
    for route in routes:
        inner: Any = route
        if hasattr(inner, "effective_route_contexts"):  # FastAPI's included router
            yield from walk(
                (each.starlette_route or each for each in inner.effective_route_contexts()), prefix
            )
        elif hasattr(inner, "methods"):
            yield from (Endpoint(method, prefix + inner.path) for method in inner.methods)
        elif hasattr(inner, "routes"):
            yield from walk(inner.routes, prefix + getattr(inner, "path", ""))
        elif "websocket" in type(inner).__name__.lower():
            yield Endpoint(WEBSOCKET, prefix + inner.path)
        else:
            raise AssertionError(f"a route of a new kind: {inner!r}")


@dataclass(frozen=True)
class Names:
    """Ids that a request names: an organization's, or of nothing at all."""

    tenant_id: UUID
    user_id: UUID
    key_id: UUID
    request_id: UUID
    email: str

    def said(self) -> tuple[str, ...]:
        """All of them in every form a request has them in."""
        ids = (self.tenant_id, self.user_id, self.key_id, self.request_id)
        return (*(str(each) for each in ids), *(each.hex for each in ids), self.email)


def path_of(endpoint: Endpoint, names: Names) -> str:
    """The path with the ids in it. Raises KeyError for a parameter nobody has thought of."""
    values = {"{key_id}": str(names.key_id), "{model_id:path}": str(names.key_id)}
    parts = [values[part] if part.startswith("{") else part for part in endpoint.path.split("/")]
    return "/".join(parts)


def query_of(names: Names) -> dict[str, str]:
    """Ids as parameters, by every name a route might read."""
    return {
        "id": f"gen_{names.request_id.hex}",
        "api_key_id": str(names.key_id),
        "key_id": str(names.key_id),
        "tenant_id": str(names.tenant_id),
        "user_id": str(names.user_id),
    }


def headers_of(names: Names) -> dict[str, str]:
    """Ids as headers, by every name a server might trust."""
    return {
        "x-tenant-id": str(names.tenant_id),
        "x-organization-id": str(names.tenant_id),
        "openai-organization": str(names.tenant_id),
        "openai-project": str(names.tenant_id),
        "x-user-id": str(names.user_id),
        "x-key-id": str(names.key_id),
        "x-generation-id": f"gen_{names.request_id.hex}",
    }


def body_of(endpoint: Endpoint, names: Names) -> dict[str, Any]:
    """What the route asks for, and the ids beside it; a route that asks for more must be told here."""
    about = {
        "/v1/chat/completions": {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
        "/api/v1/keys": {"name": "Of the caller"},
        "/api/v1/keys/{key_id}": {"name": "Taken over"},
        "/api/v1/auth/register": {
            "email": names.email,
            "password": "correct horse battery",
            "full_name": "Ravi Kumar",
            "accept_terms": True,
        },
        "/api/v1/auth/register/verify": {"email": names.email, "code": "000000"},
        "/api/v1/auth/otp/send": {"email": names.email, "purpose": "register"},
        "/api/v1/auth/login": {"email": names.email, "password": "correct horse battery"},
        "/api/v1/auth/refresh": {"refresh_token": "cmr_" + "x" * 75},
    }
    ids = {"id": str(names.key_id), "key_id": str(names.key_id), "tenant_id": str(names.tenant_id)}
    return {**ids, "user_id": str(names.user_id), **about.get(endpoint.path, {})}
