"""The usage API over HTTP: documented shapes, bounds, credentials, and a log that streams."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from api.db.engine import Database
from api.db.session import tenant_session
from api.edge import render, usage
from api.settings import Settings
from api.tables import User
from api.tenants.authenticate import KeyRing
from api.tenants.keys import NewKey, create_key
from api.tenants.secrets import load_secret
from api.tenants.sessions import Device, open_session
from api.types import DAY, Role, new_id
from api.usage import export
from tests.conftest import MakeTenant
from tests.usage.factories import NOW, add, owner, usage_row


@dataclass
class Api:
    """The usage routes on a real database, and credentials for them."""

    app: FastAPI
    database: Database
    secret: bytes
    client: httpx2.AsyncClient

    async def get(self, path: str, credential: str | None, **query: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        return await self.client.get(path, params=query, headers=headers)

    async def key(self, tenant_id: UUID, scopes: str = "") -> tuple[UUID, str]:
        made, text = await create_key(
            self.database, self.secret, owner(tenant_id), NewKey(name="Test", scopes=scopes)
        )
        return made.id, text

    async def person(self, tenant_id: UUID, role: Role) -> tuple[UUID, str]:
        user = User(
            tenant_id=tenant_id,
            id=new_id(),
            email=f"{new_id().hex}@example.com",
            full_name="A Person",
            role=role,
            created_at=NOW,
            updated_at=NOW,
        )
        async with tenant_session(self.database, tenant_id, writes=True) as session:
            session.add(user)
            await session.flush()
            opened = open_session(session, self.secret, user=user, device=Device(), by_cookie=False)
        assert opened.access_token
        return user.id, opened.access_token


@pytest.fixture
async def api(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(usage, "now", lambda: NOW)
    secret = load_secret(settings)
    ring = KeyRing(database, secret)
    app = FastAPI()
    render.install(app)
    app.include_router(usage.router)
    app.state.services = SimpleNamespace(database=database, secret=secret, keys=ring, settings=settings)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Api(app, database, secret, client)
    await ring.close()


async def test_a_summary_has_the_documented_shape(api: Api, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    _, token = await api.person(tenant_id, "owner")
    await add(
        api.database,
        tenant_id,
        usage_row(charge=121_500, latency_ms=100, cached_tokens=5),
        usage_row(charge=1, latency_ms=301, created_at=NOW - DAY),
        usage_row(charge=0, outcome="failed", output_tokens=0, created_at=NOW - 2 * DAY),
    )
    answer = await api.get("/v1/usage/summary", token, days=2)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {
        "period_days": 2,
        "totals": {
            "total_requests": 2,
            "success": 2,
            "errors": 0,
            "success_rate": 1.0,
            "total_cost_usd": 0.00121501,
            "total_credits": 0.121501,
            "total_input_tokens": 25,
            "total_output_tokens": 40,
            "total_audio_seconds": 0.0,
            "avg_latency_ms": 200,
            "p50_latency_ms": 100,
            "p95_latency_ms": 301,
        },
        "by_service": [
            {
                "service": "llm",
                "requests": 2,
                "cost_usd": 0.00121501,
                "credits": 0.121501,
                "input_tokens": 25,
                "output_tokens": 40,
            }
        ],
        "by_model": [
            {
                "model": "kimi-k2.5-fast",
                "requests": 2,
                "cost_usd": 0.00121501,
                "credits": 0.121501,
                "input_tokens": 25,
                "output_tokens": 40,
            }
        ],
        "series": [
            {"date": "2026-11-21", "requests": 1, "cost_usd": 0.00000001, "credits": 0.000001},
            {"date": "2026-11-22", "requests": 1, "cost_usd": 0.001215, "credits": 0.1215},
        ],
    }
    default = (await api.get("/v1/usage/summary", token)).json()
    assert (default["period_days"], len(default["series"])) == (30, 30)
    assert (default["totals"]["errors"], default["totals"]["success_rate"]) == (1, 0.666667)


async def test_logs_have_the_documented_shape(api: Api, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    _, token = await api.person(tenant_id, "admin")
    key_id = new_id()
    row = usage_row(
        charge=121_500,
        api_key_id=key_id,
        status_code=502,
        outcome="failed",
        error_code="upstream_error",
        trace_id="t-1",
    )
    await add(api.database, tenant_id, row, usage_row(created_at=NOW - 7 * DAY))
    answer = await api.get("/v1/usage/logs", token)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {
        "period": {"start": "2026-11-15T18:30:00.000Z", "end": "2026-11-22T18:30:00.000Z"},
        "limit": 100,
        "offset": 0,
        "count": 1,
        "logs": [
            {
                "id": str(row.id),
                "created_at": "2026-11-22T10:00:00.000Z",
                "service": "llm",
                "endpoint": "/v1/chat/completions",
                "method": "POST",
                "model": "kimi-k2.5-fast",
                "status_code": 502,
                "latency_ms": 100,
                "input_tokens": 10,
                "output_tokens": 20,
                "audio_seconds": 0.0,
                "cost_usd": 0.001215,
                "credits": 0.1215,
                "request_id": f"gen_{row.id.hex}",
                "api_key_id": str(key_id),
                "error_message": "The model's provider failed to answer.",
                "trace_id": "t-1",
                "session_id": None,
            }
        ],
    }


async def test_logs_are_filtered_and_paged(api: Api, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    _, token = await api.person(tenant_id, "owner")
    key_id = new_id()
    rows = [usage_row(created_at=NOW - n * DAY // 2) for n in range(9)]
    special = usage_row(
        created_at=NOW - 20 * DAY,
        service="tts",
        model="bulbul:v3",
        api_key_id=key_id,
        outcome="cut",
        session_id="s",
        trace_id="t",
    )
    *ids, wanted = await add(api.database, tenant_id, *rows, special)
    page = (await api.get("/v1/usage/logs", token, limit=3, offset=2)).json()
    assert ([line["id"] for line in page["logs"]], page["count"]) == ([str(i) for i in ids[2:5]], 3)
    asked: list[dict[str, Any]] = [
        {"service": "tts", "days": 90},
        {"model": "bulbul:v3", "days": 21},
        {"api_key_id": str(key_id), "days": 90},
        {"status": "error", "days": 90, "model": ""},
        {"session_id": "s", "start": "2026-11-01"},
        {"trace_id": "t", "start": "2026-11-02T10:00:00Z", "end": "2026-11-02T15:30:00.001+05:30"},
        {"start": "2026-11-02", "end": "2026-11-02"},
        {"end": "2026-11-03", "days": 2},
        {"end": "2026-11-02T10:00:00.001", "days": 1},
    ]
    for query in asked:
        found = (await api.get("/v1/usage/logs", token, **query)).json()
        assert [line["id"] for line in found["logs"]] == [str(wanted)], query
    for query in ({"days": 20}, {"service": "llm", "model": "bulbul:v3", "days": 90}, {"end": "2026-11-01"}):
        found = (await api.get("/v1/usage/logs", token, **query)).json()
        assert str(wanted) not in [line["id"] for line in found["logs"]], query


BAD = [
    *(("summary", "days", value) for value in ("0", "91", "-1", "1.5", "seven", "٧", "1e1", " 7", "9" * 40)),
    *(("logs", "days", value) for value in ("0", "91", "x")),
    *(("logs", "limit", value) for value in ("0", "501", "-5", "ten")),
    *(("logs", "offset", value) for value in ("-1", "100001", "x")),
    *(("logs", "service", value) for value in ("LLM", "llm' OR 1=1", "chat")),
    *(("logs", "status", value) for value in ("OK", "200")),
    *(("logs", "api_key_id", value) for value in ("1", "cm_live_x", "z" * 36)),
    *(("logs", "model", value) for value in ("x" * 201, "a\x00b", "a\nb")),
    *(("logs", "trace_id", value) for value in ("x" * 65, "\x00")),
    *(("logs", "session_id", value) for value in ("x" * 65, "\x00")),
    *(("logs", "start", value) for value in ("yesterday", "2026-13-01", "2026-08-24", "0001-01-01", "1")),
    *(("logs", "end", value) for value in ("2026-11-31", "2026-08-24", "9" * 30)),
    *(("logs.csv", "days", value) for value in ("0", "91")),
    *(("logs.csv", "service", value) for value in ("x",)),
]


async def test_a_parameter_out_of_bounds_is_a_400_that_names_it(api: Api, tenant: MakeTenant) -> None:
    _, token = await api.person(await tenant(), "owner")
    for path, name, value in BAD:
        answer = await api.get(f"/v1/usage/{path}", token, **{name: value})
        assert answer.status_code == 400, (path, name, value)
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == (
            "invalid_request_error",
            "invalid_request_error",
            name,
        )
        assert name in error["message"]
    missing = await api.get("/v1/generation", token)
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "id")


async def test_the_window_reaches_back_ninety_days(api: Api, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    _, token = await api.person(tenant_id, "owner")
    inside, _ = await add(
        api.database,
        tenant_id,
        usage_row(created_at=NOW - 89 * DAY),
        usage_row(created_at=NOW - 90 * DAY),
    )
    for query in ({"days": 90}, {"start": "2026-08-25"}):
        found = (await api.get("/v1/usage/logs", token, **query)).json()
        assert [line["id"] for line in found["logs"]] == [str(inside)]
    assert (await api.get("/v1/usage/summary", token, days=90)).json()["totals"]["total_requests"] == 1


async def test_an_export_is_a_file_that_streams(
    api: Api, tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BATCH", 2)
    tenant_id = await tenant()
    _, token = await api.person(tenant_id, "owner")
    ids = await add(api.database, tenant_id, *(usage_row(created_at=NOW - n, model="=1+1") for n in range(5)))
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/v1/usage/logs.csv",
        "raw_path": b"/v1/usage/logs.csv",
        "root_path": "",
        "scheme": "http",
        "query_string": b"service=llm",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "client": None,
        "server": None,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await api.app(scope, receive, send)
    headers = dict(sent[0]["headers"])
    assert (sent[0]["status"], headers[b"content-type"]) == (200, b"text/csv; charset=utf-8")
    assert headers[b"content-disposition"] == b'attachment; filename="usage-20261122.csv"'
    assert headers[b"cache-control"] == b"no-store"
    assert b"content-length" not in headers
    blocks = [message["body"] for message in sent[1:] if message["body"]]
    assert [block.count(b"\r\n") for block in blocks] == [3, 2, 1]
    lines = list(csv.DictReader(io.StringIO(b"".join(blocks).decode(), newline="")))
    assert [line["id"] for line in lines] == [str(row_id) for row_id in ids]
    assert {line["model"] for line in lines} == {"'=1+1"}


async def test_nobody_reads_without_a_credential(api: Api) -> None:
    for path in ("usage/summary", "usage/logs", "usage/logs.csv", "generation?id=gen_0"):
        for credential in (None, "cm_live_nonsense", "a.b.c", "x"):
            answer = await api.get(f"/v1/{path}", credential)
            assert answer.status_code == 401, (path, credential)
            assert set(answer.json()) == {"error"}


async def test_each_credential_reads_its_own(api: Api, tenant: MakeTenant) -> None:
    mine, other = await tenant(), await tenant()
    key_id, text = await api.key(mine)
    _, wide = await api.key(mine, "usage:read")
    _, foreign = await api.key(other, "*")
    person_id, agent = await api.person(mine, "agent")
    _, admin = await api.person(mine, "admin")
    by_key, by_person, by_nobody = await add(
        api.database, mine, usage_row(api_key_id=key_id), usage_row(user_id=person_id), usage_row()
    )
    everything = {by_key, by_person, by_nobody}
    reads = {text: {by_key}, wide: everything, foreign: set(), agent: {by_person}, admin: everything}
    for credential, expected in reads.items():
        ids = {str(row_id) for row_id in expected}
        found = (await api.get("/v1/usage/logs", credential)).json()["logs"]
        assert {line["id"] for line in found} == ids
        total = (await api.get("/v1/usage/summary", credential)).json()["totals"]["total_requests"]
        assert total == len(ids)
        file = (await api.get("/v1/usage/logs.csv", credential)).text
        assert {line["id"] for line in csv.DictReader(io.StringIO(file, newline=""))} == ids
        for row_id in everything:
            answer = await api.get("/v1/generation", credential, id=f"gen_{row_id.hex}")
            assert answer.status_code == (200 if row_id in expected else 404)


async def test_a_foreign_a_missing_and_a_malformed_id_are_the_same_404(api: Api, tenant: MakeTenant) -> None:
    mine, other = await tenant(), await tenant()
    _, token = await api.person(mine, "owner")
    (own,) = await add(api.database, mine, usage_row())
    (foreign,) = await add(api.database, other, usage_row())
    for prefix in ("gen", "msg", "resp"):
        found = await api.get("/v1/generation", token, id=f"{prefix}_{own.hex}")
        assert found.json()["data"]["id"] == f"gen_{own.hex}"
    refused = [
        await api.get("/v1/generation", token, id=wanted)
        for wanted in (
            f"gen_{foreign.hex}",
            f"gen_{new_id().hex}",
            f"gen_{own.hex.upper()}",
            f"chatcmpl_{own.hex}",
            str(own),
            own.hex,
            f"gen_{own.hex}0",
            "gen_",
            "' OR 1=1 --",
        )
    ]
    assert {answer.status_code for answer in refused} == {404}
    assert {answer.text for answer in refused} == {
        '{"error":{"message":"Generation not found","type":"invalid_request_error","param":null,'
        '"code":"not_found"}}'
    }


def test_every_parameter_is_documented(settings: Settings) -> None:
    app = FastAPI()
    app.include_router(usage.router)
    paths = app.openapi()["paths"]
    documented = {
        path: {parameter["name"] for parameter in paths[path]["get"]["parameters"]} for path in paths
    }
    filters = {"days", "start", "end", "service", "model", "api_key_id", "status", "session_id", "trace_id"}
    assert documented == {
        "/v1/usage/summary": {"days"},
        "/v1/usage/logs": filters | {"limit", "offset"},
        "/v1/usage/logs.csv": filters,
        "/v1/generation": {"id"},
    }
    fields = app.openapi()["components"]["schemas"]["LogLine"]["properties"]
    assert set(fields) == set(export.COLUMNS)
