"""Every bad request has its documented status and body, reaches no vendor, and costs nothing."""

import asyncio
import json

import httpx2
import pytest

from api.types import now
from tests.gateway.test_chat import ASK, CHAT
from tests.running import Customer, Running, balance, customer, usage_rows
from tests.upstream import Upstream, stream


def post(gateway: Running, who: Customer, body: object, **headers: str) -> "asyncio.Future[httpx2.Response]":
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.ensure_future(gateway.client.post(CHAT, content=content, headers=who.headers | headers))


BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "a list": b"[]",
    "deeply nested": b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "NaN": b'{"messages":[{"role":"user","content":NaN}]}',
    "a lone surrogate": b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    "negative max_tokens": json.dumps(ASK | {"max_tokens": -1}).encode(),
    "huge max_tokens": json.dumps(ASK | {"max_tokens": 10**12}).encode(),
    "no messages": json.dumps({"model": "gpt-4o"}).encode(),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_wrong_body_is_a_400(gateway: Running, acme: Customer, upstream: Upstream, kind: str) -> None:
    answer = await post(gateway, acme, BODIES[kind])
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert upstream.requests == [] and await usage_rows(gateway.services, acme.tenant_id) == []


async def test_a_body_of_twenty_megabytes_is_a_413(gateway: Running, acme: Customer) -> None:
    answer = await post(gateway, acme, b" " * 20_000_000)
    assert answer.status_code == 413 and "10 MB" in answer.json()["error"]["message"]


async def test_a_large_body_without_a_length_is_a_413_too(gateway: Running, acme: Customer) -> None:
    async def pieces() -> object:
        for _ in range(20):
            yield b" " * 1_000_000

    answer = await gateway.client.post(CHAT, content=pieces(), headers=acme.headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "credential", ["", "Bearer", "Bearer nonsense", "Bearer cm_live_" + "a" * 36, "Basic x"]
)
async def test_a_missing_or_unknown_key_is_a_401(gateway: Running, credential: str) -> None:
    headers = {"authorization": credential} if credential else {}
    answer = await gateway.client.post(CHAT, json=ASK, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_revoked_key_is_a_401_and_an_expired_one_says_so(gateway: Running) -> None:
    revoked = await customer(gateway.services, revoked_at=now())
    expired = await customer(gateway.services, expires_at=now() - 1)
    first = await post(gateway, revoked, ASK)
    second = await post(gateway, expired, ASK)
    assert (first.status_code, first.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (second.status_code, second.json()["error"]["code"]) == (401, "api_key_expired")


@pytest.mark.parametrize(
    ("allows", "model", "code"),
    [
        ({"permissions": "stt"}, "gpt-4o", "permission_denied"),
        ({"allowed_models": ["gpt-4.1"]}, "gpt-4o", "model_not_allowed"),
        ({"allowed_domains": ["example.com"]}, "gpt-4o", "domain_not_allowed"),
        ({"plan": "free"}, "gpt-4o", "model_not_available"),
    ],
)
async def test_what_a_key_may_not_do_is_a_403_with_its_code(
    gateway: Running, upstream: Upstream, allows: dict[str, object], model: str, code: str
) -> None:
    limited = await customer(gateway.services, **allows)  # type: ignore[arg-type]
    answer = await post(gateway, limited, ASK | {"model": model}, origin="https://evil.example")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
    assert answer.headers["x-should-retry"] == "false" and upstream.requests == []


async def test_a_key_works_from_the_domain_it_is_locked_to(gateway: Running) -> None:
    limited = await customer(gateway.services, allowed_domains=["example.com"])
    answer = await post(gateway, limited, ASK, origin="https://example.com")
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"


async def test_an_unknown_model_is_a_404(gateway: Running, acme: Customer) -> None:
    answer = await post(gateway, acme, ASK | {"model": "gpt-9"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_model_whose_vendor_is_not_configured_names_the_setting(
    gateway: Running, acme: Customer
) -> None:
    answer = await post(gateway, acme, ASK | {"model": "sarvam-105b"})
    assert answer.status_code == 503 and "SARVAM_API_KEY" in answer.json()["error"]["message"]


async def test_an_image_for_a_model_that_reads_none_is_a_400_before_the_vendor(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    ask = {"model": "mistralai/mistral-small-2603", "messages": [{"role": "user", "content": [picture]}]}
    answer = await post(gateway, acme, ask)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_image_input")
    assert upstream.requests == []


async def test_a_wallet_without_credits_is_a_402_that_says_what_to_do(gateway: Running) -> None:
    empty = await customer(gateway.services, credits="0")
    answer = await post(gateway, empty, ASK)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (
        402,
        "insufficient_credits",
        "insufficient_quota",
    )
    assert "operator" in error["message"]


async def test_the_rate_limit_of_a_key_is_exact(gateway: Running) -> None:
    slow = await customer(gateway.services, rate_limit_rpm=5)
    answers = await asyncio.gather(*(post(gateway, slow, ASK) for _ in range(20)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 15
    assert {a.json()["error"]["code"] for a in refused} == {"rate_limit_exceeded"}
    assert all(1 <= int(a.headers["retry-after"]) <= 61 for a in refused)
    assert (await balance(gateway.services, slow.tenant_id)).held == 0


async def test_calls_in_flight_are_bounded_per_key(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    object.__setattr__(gateway.services.settings, "request_deadline", 5.0)
    upstream.script = lambda _: stream(2, wait=1.0)
    answers = await asyncio.gather(*(post(gateway, acme, ASK | {"stream": True}) for _ in range(520)))
    codes = [answer.json()["error"]["code"] for answer in answers if answer.status_code == 429]
    assert codes == ["too_many_concurrent_requests"] * 8


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1", "/api/v1/nothing", "/v2/x", "/metrics", "/ws/x"])
async def test_an_unknown_path_answers_json(gateway: Running, path: str) -> None:
    answer = await gateway.client.get(path)
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/json"
    assert ("detail" if path.startswith("/api") else "error") in answer.json()


async def test_a_wrong_method_is_a_405_in_json(gateway: Running) -> None:
    answer = await gateway.client.get(CHAT)
    assert answer.status_code == 405 and answer.json()["error"]["code"] == "method_not_allowed"


async def test_pages_of_any_origin_may_ask_first(gateway: Running) -> None:
    answer = await gateway.client.options(CHAT, headers={"origin": "https://a.example"})
    assert answer.status_code == 204 and "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


async def test_the_model_list_shows_only_what_is_routable_and_allowed(
    gateway: Running, acme: Customer
) -> None:
    listed = (await gateway.client.get("/v1/models", headers=acme.headers)).json()["data"]
    assert {"gpt-4o", "anthropic/claude-haiku-4.5"} <= {m["id"] for m in listed}
    assert "sarvam-105b" not in {m["id"] for m in listed}
    public = (await gateway.client.get("/api/v1/models")).json()
    reasons = {m["id"]: m["reason"] for m in public["unavailable"]}
    assert "SARVAM_API_KEY" in reasons["sarvam-105b"]
    only = await customer(gateway.services, allowed_models=["gpt-4o"])
    one = (await gateway.client.get("/v1/models", headers=only.headers)).json()["data"]
    assert [m["id"] for m in one] == ["gpt-4o"]


async def test_no_model_means_the_default_and_the_local_one_when_it_is_not_configured(
    gateway: Running, acme: Customer
) -> None:
    answer = await post(gateway, acme, {"messages": ASK["messages"], "max_tokens": 5})
    assert answer.status_code == 200
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert row.model == "kimi-k2.5-fast" and row.provider == "openrouter"
