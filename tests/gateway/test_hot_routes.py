"""There is one way to spend, and the short cut to a hot path leads where the route table leads."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from starlette.routing import BaseRoute

from api.db.session import tenant_session
from api.main import HOT, create_app
from api.settings import Settings
from api.tables import Transfer
from tests.gateway.test_chat import ASK
from tests.running import Customer, Running, balance, customer, open_holds, usage_rows
from tests.upstream import Upstream, refusal

SPENDING: dict[str, dict[str, Any]] = {"/v1/chat/completions": ASK}
"""For every POST route under /v1 that costs money, a body it answers with 200."""

FREE: frozenset[str] = frozenset()
"""POST routes under /v1 that cost nothing, reviewed one by one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One route that can be reached, with the prefixes of the mounts above it."""

    path: str
    methods: frozenset[str]
    documented: bool


def entries(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[Entry]:
    for route in iter_route_contexts(routes):
        if route.path is None:
            raise AssertionError(f"a route without a path: {route.original_route!r}")
        path = prefix + route.path
        inner = getattr(route, "routes", None)
        if inner is None:
            documented = bool(getattr(route, "include_in_schema", False))
            yield Entry(path, frozenset(route.methods or ()), documented)
        elif inner:
            yield from entries(inner, path)
        else:
            raise AssertionError(f"what is mounted at {path} cannot be walked")


def posts(routes: Sequence[BaseRoute]) -> set[str]:
    return {entry.path for entry in entries(routes) if "POST" in entry.methods}


async def test_every_post_route_under_v1_is_known_to_spend_or_reviewed_as_free(settings: Settings) -> None:
    found = {path for path in posts(create_app(settings).routes) if path.startswith("/v1/")}
    assert found == set(SPENDING) | FREE, "a new route goes into SPENDING, with a body, or into FREE"


@pytest.mark.parametrize("path", SPENDING)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_spends_is_held_first_and_settled_once(
    gateway: Running, acme: Customer, path: str, streamed: bool
) -> None:
    body = SPENDING[path] | {"stream": streamed}
    answer = await gateway.client.post(path, json=body, headers=acme.headers)
    assert answer.status_code == 200, answer.text
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    async with tenant_session(gateway.services.database, acme.tenant_id) as session:
        moved = list(await session.scalars(select(Transfer).where(Transfer.kind != "signup_bonus")))
    kinds = {transfer.kind: transfer for transfer in moved}
    assert len(moved) == 2 and set(kinds) == {"hold", "settle"}
    assert kinds["hold"].id == row.id and kinds["settle"].resolves == row.id
    assert kinds["hold"].amount >= kinds["settle"].amount == row.charge > 0
    assert (row.endpoint, row.held) == (path, kinds["hold"].amount)
    assert await open_holds(gateway.services, acme.tenant_id) == 0
    assert (await balance(gateway.services, acme.tenant_id)).total == 1_000_000_000 - row.charge


@pytest.mark.parametrize("path", SPENDING)
async def test_what_spends_asks_nobody_when_the_wallet_is_empty_or_the_key_is_wrong(
    gateway: Running, upstream: Upstream, path: str
) -> None:
    empty = await customer(gateway.services, credits="0")
    for headers, status in ((empty.headers, 402), ({"authorization": "Bearer cm_live_x"}, 401), ({}, 401)):
        answer = await gateway.client.post(path, json=SPENDING[path], headers=headers)
        assert answer.status_code == status and set(answer.json()) == {"error"}
    assert upstream.requests == []


def test_every_hot_path_is_a_post_route_of_the_app(settings: Settings) -> None:
    assert set(HOT) <= posts(create_app(settings).routes)


def _comparable(answer: httpx2.Response) -> tuple[int, dict[str, str], str]:
    """All of an answer but what is new every time: ids, and the server's own date."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "server")}
    if "content-length" not in headers:
        headers.pop("transfer-encoding", None)  # how a stream is framed is the server's affair

    def plain(text: str) -> str:
        return re.sub(r"(gen|req)_[0-9a-f]{32}", r"\1_ID", text)

    return answer.status_code, {name: plain(value) for name, value in headers.items()}, plain(answer.text)


CALLS: dict[str, tuple[str, bytes]] = {
    "a whole answer": ("POST", json.dumps(ASK).encode()),
    "a stream": ("POST", json.dumps(ASK | {"stream": True}).encode()),
    "no JSON": ("POST", b"{"),
    "a wrong field": ("POST", json.dumps(ASK | {"temperature": 9}).encode()),
    "an unknown model": ("POST", json.dumps(ASK | {"model": "gpt-9"}).encode()),
    "too much": ("POST", b" " * 11_000_000),
    "another method": ("GET", b""),
}


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("path", HOT)
async def test_both_doors_give_the_same_answer(
    gateway: Running, acme: Customer, path: str, what: str
) -> None:
    method, body = CALLS[what]
    bare = httpx2.ASGITransport(app=gateway.app)
    async with httpx2.AsyncClient(transport=bare, base_url="http://bare") as table:
        for headers in (acme.headers, {}):
            short = await gateway.client.request(method, path, content=body, headers=headers)
            long = await table.request(method, path, content=body, headers=headers)
            assert _comparable(short) == _comparable(long)
    assert (
        what not in ("a whole answer", "a stream")
        or len(await usage_rows(gateway.services, acme.tenant_id)) == 2
    )


async def test_both_doors_give_the_same_failure(gateway: Running, acme: Customer, upstream: Upstream) -> None:
    upstream.script = lambda _: refusal(503, retry_after=4)
    bare = httpx2.ASGITransport(app=gateway.app)
    async with httpx2.AsyncClient(transport=bare, base_url="http://bare") as table:
        for path, body in SPENDING.items():
            short = await gateway.client.post(path, json=body, headers=acme.headers)
            long = await table.post(path, json=body, headers=acme.headers)
            assert short.status_code == 503 and _comparable(short) == _comparable(long)


async def test_the_description_of_the_api_tells_of_every_route(gateway: Running) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    told = {(path, method.upper()) for path, operations in document["paths"].items() for method in operations}
    routes = {
        (re.sub(r":\w+}", "}", entry.path), method)
        for entry in entries(gateway.app.routes)
        for method in entry.methods - {"HEAD"}
        if entry.documented
    }
    assert routes - told == set() and told - routes == set()
    assert {(path, "POST") for path in HOT} <= told


async def test_the_description_of_a_hot_route_says_what_it_takes_and_gives(gateway: Running) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    for path in HOT:
        operation = document["paths"][path]["post"]
        assert operation["summary"] and operation["requestBody"]["content"]["application/json"]["schema"]
        assert {"200", "400", "401", "402", "403", "404", "413", "429", "502", "503"} <= set(
            operation["responses"]
        )
        for requirement in operation["security"]:
            assert set(requirement) <= set(document["components"]["securitySchemes"])
