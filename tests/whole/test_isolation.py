"""Whoever asks with another organization's ids, anywhere, learns nothing of it and changes nothing of it."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from api.edge.cookies import cookie_name
from api.settings import Settings
from api.tenants.key_text import new_key_text
from api.tenants.tokens import AccessClaims, make_access_token
from api.types import new_id, now
from tests.running import Running, running
from tests.tenants.site import changed
from tests.upstream import Upstream
from tests.whole.canaries import Organization, fingerprint, organization
from tests.whole.routes import Endpoint, Names, body_of, headers_of, path_of, query_of, walk

AUTH = "/api/v1/auth"
OPEN = {
    Endpoint("GET", "/livez"): "health",
    Endpoint("GET", "/readyz"): "health",
    Endpoint("GET", "/openapi.json"): "the API's description",
    Endpoint("HEAD", "/openapi.json"): "the API's description",
    Endpoint("GET", "/api/v1/models"): "the public catalog",
    Endpoint("GET", "/api/v1/models/access"): "the public catalog",
    Endpoint("GET", "/api/v1/models/{model_id:path}"): "the public catalog",
    Endpoint("POST", f"{AUTH}/register"): "a way in",
    Endpoint("POST", f"{AUTH}/register/verify"): "a way in",
    Endpoint("POST", f"{AUTH}/otp/send"): "a way in",
    Endpoint("POST", f"{AUTH}/login"): "a way in",
    Endpoint("POST", f"{AUTH}/refresh"): "a way in",
    Endpoint("POST", f"{AUTH}/logout"): "ends what the caller has; without a credential that is nothing",
}
"""Routes that ask for no credential, and why. Reviewed: a route that opens itself to anybody fails a test."""

SHOWS = {
    "GET /api/v1/auth/me",
    "GET /api/v1/keys",
    "GET /api/v1/keys/{key_id}",
    "GET /api/v1/keys/{key_id}/rate-state",
    "GET /v1/generation",
    "GET /v1/usage/logs",
    "GET /v1/usage/logs.csv",
    "GET /v1/usage/summary",
}
"""Where an owner reads what is the organization's own, by a token."""

Credential = Callable[[], Awaitable[dict[str, str]]]
_addresses = count(2)


@dataclass
class Actor:
    """Who asks: every request with a credential made for it, from an address with limits of its own."""

    client: httpx2.AsyncClient
    credential: Credential

    async def ask(self, endpoint: Endpoint, names: Names) -> httpx2.Response:
        return await self.client.request(
            endpoint.method,
            path_of(endpoint, names),
            params=query_of(names),
            headers={**headers_of(names), **await self.credential()},
            json=None if endpoint.method in ("GET", "HEAD") else body_of(endpoint, names),
        )


@pytest.fixture
async def server(database_settings: Settings, upstream: Upstream) -> AsyncIterator[Running]:
    """As people reach it over the internet."""
    vendors = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-secret"}
    public = changed(database_settings, vendors=vendors, local=False, public_url="https://callmissed.example")
    async with running(public) as started:
        yield started


@pytest.fixture
async def acme(server: Running) -> Organization:
    """The one that must not be seen."""
    return await organization(server.services, server.services.writer, f"zq{uuid4().hex[:12]}")


@pytest.fixture
async def rival(server: Running) -> Organization:
    """The one that looks."""
    return await organization(server.services, server.services.writer, f"zr{uuid4().hex[:12]}")


@pytest.fixture
async def open_actor(server: Running) -> AsyncIterator[Callable[[Credential], Actor]]:
    """Makes actors."""
    async with AsyncExitStack() as stack:
        clients = []

        def make(credential: Credential) -> Actor:
            door = httpx2.AsyncHTTPTransport(local_address=f"127.0.0.{next(_addresses)}")
            client = httpx2.AsyncClient(base_url=server.url, transport=door, timeout=30)
            clients.append(client)
            stack.push_async_callback(client.aclose)
            return Actor(client, credential)

        yield make


def strangers(server: Running, acme: Organization, rival: Organization) -> dict[str, Credential]:
    """Everybody who is not of Acme; who has nothing that anybody gave out comes first."""
    settings = server.services.settings

    def always(**headers: str) -> Credential:
        async def give() -> dict[str, str]:
            return {name.replace("_", "-"): value for name, value in headers.items()}

        return give

    async def by_token() -> dict[str, str]:
        return bearer((await rival.signs_in(by_cookie=False)).access_token)

    async def by_cookie() -> dict[str, str]:
        token = (await rival.signs_in(by_cookie=True)).cookie_token
        return {"cookie": f"{cookie_name(settings)}={token}", "origin": settings.origin}

    claims = AccessClaims(user_id=acme.user_id, tenant_id=acme.tenant_id, session_id=new_id())
    secret = server.services.secret
    return {
        "anonymous": always(),
        "a key nobody made": always(**bearer(new_key_text(live=True))),
        "a revoked key of Acme's": always(**bearer(acme.revoked_key)),
        "a token of Acme's that others signed": always(
            **bearer(make_access_token(secret[::-1], claims, now=now()))
        ),
        "a token of Acme's for no session": always(**bearer(make_access_token(secret, claims, now=now()))),
        "Acme's ids as credentials": always(
            x_api_key=str(acme.key_id), cookie=f"{cookie_name(settings)}={acme.user_id}"
        ),
        "the rival's owner by token": by_token,
        "the rival's owner by cookie": by_cookie,
        "the rival's key": always(**bearer(rival.key)),
    }


NOBODY = 6
"""So many of the strangers are nobody at all."""


def bearer(token: str | None) -> dict[str, str]:
    assert token
    return {"authorization": f"Bearer {token}"}


def names_of(of: Organization) -> Names:
    return Names(of.tenant_id, of.user_id, of.key_id, of.request_id, of.email)


def names_of_nothing() -> Names:
    return Names(uuid4(), uuid4(), uuid4(), uuid4(), f"zn{uuid4().hex[:12]}@example.com")


async def test_every_route_keeps_one_organization_from_all_others(
    server: Running, acme: Organization, rival: Organization, open_actor: Callable[[Credential], Actor]
) -> None:
    endpoints = sorted(set(walk(server.app.routes)))
    before = await fingerprint(acme.database, acme.tenant_id)
    wrong: list[str] = []
    for number, (who, credential) in enumerate(strangers(server, acme, rival).items()):
        actor = open_actor(credential)
        for endpoint in endpoints:
            foreign, missing = names_of(acme), names_of_nothing()
            answers = [await actor.ask(endpoint, foreign), await actor.ask(endpoint, missing)]
            found = leaks(acme, endpoint, foreign, answers[0])
            if endpoint not in OPEN:
                found += refusals(endpoint, answers[0], nobody=number < NOBODY)
            if endpoint not in OPEN or number == 0:
                found += differences(answers, foreign, missing)
            wrong += [f"{endpoint} by {who}: {each}" for each in found]
    after = await fingerprint(acme.database, acme.tenant_id)
    wrong += [f"rows of {table} changed" for table in before if before[table] != after[table]]
    assert wrong == []
    assert len(endpoints) > 15


def leaks(acme: Organization, endpoint: Endpoint, names: Names, answer: httpx2.Response) -> list[str]:
    """What the answer shows that its caller did not say."""
    everything = answer.text + repr(answer.headers.multi_items())
    found = [f"shows {each}" for each in acme.seen_in(everything, sent=names.said())]
    unserved = answer.status_code == 405 or "There is nothing at" in answer.text
    return found + [f"status {answer.status_code}: {answer.text[:200]}"] * (
        unserved or answer.status_code >= 500
    )


def refusals(endpoint: Endpoint, answer: httpx2.Response, *, nobody: bool) -> list[str]:
    """Nobody gets in; somebody gets the own data, or that there is no such thing."""
    allowed = {401, 403} if nobody else {200, 201, 204, 401, 403, 404}
    if "{key_id}" in endpoint.path and not nobody:
        allowed = {401, 403, 404}
    if answer.status_code in allowed:
        return []
    return [f"status {answer.status_code}: {answer.text[:200]}"]


def differences(answers: list[httpx2.Response], foreign: Names, missing: Names) -> list[str]:
    """Another's id and one of nothing are told apart by no part of the answer."""
    told = [shape(answer, names) for answer, names in zip(answers, (foreign, missing), strict=True)]
    return [] if told[0] == told[1] else [f"a foreign id differs from a missing one: {told[0]} {told[1]}"]


_OWN = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|cm_live_\S{36}|cm_live_…\w{4}"
    r"|\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)|\d{10,13}|\"\w*latency_ms\":\d+"
)


def shape(answer: httpx2.Response, names: Names) -> tuple[int, str, list[str]]:
    """Status, body and header names without what differs from call to call."""
    text = answer.text
    for value in sorted(names.said(), key=len, reverse=True):
        text = text.replace(value, "…")
    return answer.status_code, _OWN.sub("…", text), sorted(answer.headers)


async def test_only_the_reviewed_routes_are_open_to_anybody(
    server: Running, open_actor: Callable[[Credential], Actor]
) -> None:
    async def nothing() -> dict[str, str]:
        return {}

    anonymous, endpoints = open_actor(nothing), set(walk(server.app.routes))
    statuses = {
        endpoint: (await anonymous.ask(endpoint, names_of_nothing())).status_code for endpoint in endpoints
    }
    opened = {endpoint for endpoint, status in statuses.items() if status not in (401, 403)}
    assert opened <= set(OPEN), "open to anybody and not reviewed"
    assert set(OPEN) <= endpoints, "reviewed and not there any more"


async def test_an_owner_is_shown_what_strangers_are_not(
    server: Running, acme: Organization, open_actor: Callable[[Credential], Actor]
) -> None:
    async def by_token() -> dict[str, str]:
        return bearer((await acme.signs_in(by_cookie=False)).access_token)

    owner, shown = open_actor(by_token), set()
    for endpoint in set(walk(server.app.routes)) - set(OPEN):
        if endpoint.method == "GET":
            answer: Any = await owner.ask(endpoint, names_of(acme))
            assert answer.status_code in (200, 401, 404), f"{endpoint}: {answer.text}"
            if answer.status_code == 200 and (acme.seen_in(answer.text)):
                shown.add(str(endpoint))
    assert shown == SHOWS
