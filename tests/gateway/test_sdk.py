"""The official `openai` client, sync and async, meets what it expects: errors, retries, ids, streams."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from api.types import new_id
from tests.gateway.test_chat import ASK, ONE_ANSWER
from tests.running import Customer, Running, balance, customer, open_holds, settled, usage_rows
from tests.upstream import End, Upstream, completion, hang, refusal, stream

BONUS = 1_000_000_000


class Sdk:
    """The official client on a running gateway; the sync one works in threads."""

    def __init__(self, kind: str, gateway: Running) -> None:
        self.kind, self.base_url = kind, f"{gateway.url}/v1"
        self.tries: list[str] = []
        """Of each request that was sent, which retry it said to be."""
        self.client: Any = None

    def connect(self, key: str, **options: Any) -> "Sdk":
        if self.kind == "sync":
            http: Any = openai.DefaultHttpxClient(event_hooks={"request": [self._note]}, trust_env=False)
            made: Any = openai.OpenAI
        else:
            http = openai.DefaultAsyncHttpxClient(
                event_hooks={"request": [self._note_async]}, trust_env=False
            )
            made = openai.AsyncOpenAI
        self.client = made(api_key=key, base_url=self.base_url, http_client=http, **options)
        return self

    async def run(self, method: Any, *args: Any, **fields: Any) -> Any:
        """What `method` of this client gives, whichever kind it is."""
        if self.kind == "sync":
            return await asyncio.to_thread(method, *args, **fields)
        return await method(*args, **fields)

    async def chat(self, **fields: Any) -> ChatCompletion:
        return await self.run(self.client.chat.completions.create, **{**ASK, **fields})

    async def read(
        self, into: list[ChatCompletionChunk], most: int | None = None, **fields: Any
    ) -> list[ChatCompletionChunk]:
        """Chunks of a streamed answer, added to `into` as they come; leaves after `most`."""
        chunks = await self.run(self.client.chat.completions.create, **{**ASK, "stream": True, **fields})
        if self.kind == "sync":
            await asyncio.to_thread(_read, chunks, into, most)
            return into
        async with chunks:
            async for chunk in chunks:
                into.append(chunk)
                if len(into) == most:
                    break
        return into

    async def close(self) -> None:
        if self.client is not None:
            await self.run(self.client.close)

    def _note(self, request: httpx2.Request) -> None:
        self.tries.append(request.headers["x-stainless-retry-count"])

    async def _note_async(self, request: httpx2.Request) -> None:
        self._note(request)


def _read(chunks: Any, into: list[ChatCompletionChunk], most: int | None) -> None:
    with chunks:
        for chunk in chunks:
            into.append(chunk)
            if len(into) == most:
                break


@pytest.fixture(params=["sync", "async"])
async def sdk(request: pytest.FixtureRequest, gateway: Running) -> AsyncIterator[Sdk]:
    made = Sdk(request.param, gateway)
    yield made
    await made.close()


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], type[openai.APIStatusError], int, str]] = {
    "a bad parameter": ({}, {"max_tokens": -1}, openai.BadRequestError, 400, "invalid_request_error"),
    "no credits": ({"credits": "0"}, {}, openai.APIStatusError, 402, "insufficient_credits"),
    "a spent budget": ({"budget_limit": 1}, {}, openai.APIStatusError, 402, "budget_exceeded"),
    "a forbidden model": (
        {"allowed_models": ["gpt-4.1"]},
        {},
        openai.PermissionDeniedError,
        403,
        "model_not_allowed",
    ),
    "no permission": ({"permissions": "tts"}, {}, openai.PermissionDeniedError, 403, "permission_denied"),
    "an unknown model": ({}, {"model": "gpt-9"}, openai.NotFoundError, 404, "model_not_found"),
    "too large a body": (
        {},
        {"messages": [{"role": "user", "content": "x" * 11_000_000}]},
        openai.APIStatusError,
        413,
        "invalid_request_error",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_refusal_has_its_class_its_code_an_id_and_is_not_tried_again(
    gateway: Running, upstream: Upstream, sdk: Sdk, what: str
) -> None:
    allows, fields, kind, status, code = REFUSED[what]
    who = await customer(gateway.services, **allows)
    sdk.connect(who.key)  # with the client's own number of retries
    with pytest.raises(kind) as raised:
        await sdk.chat(**fields)
    error = raised.value
    assert type(error) is kind and (error.status_code, error.code) == (status, code)
    assert error.request_id and error.request_id.startswith("req_")
    assert sdk.tries == ["0"] and upstream.requests == []
    assert await open_holds(gateway.services, who.tenant_id) == 0


@pytest.mark.parametrize("key", ["sk-not-ours", "cm_live_" + "a" * 36])
async def test_a_wrong_key_is_an_authentication_error(gateway: Running, sdk: Sdk, key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        await sdk.connect(key).chat()
    assert (raised.value.code, sdk.tries) == ("invalid_api_key", ["0"])
    assert raised.value.request_id
    with pytest.raises(openai.AuthenticationError):
        await sdk.run(sdk.client.models.list)


async def test_a_rate_limit_is_a_rate_limit_error_that_says_when(gateway: Running, sdk: Sdk) -> None:
    slow = await customer(gateway.services, rate_limit_rpm=1)
    sdk.connect(slow.key, max_retries=0)
    await sdk.chat()
    with pytest.raises(openai.RateLimitError) as raised:
        await sdk.chat()
    assert raised.value.code == "rate_limit_exceeded"
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 61


async def test_a_vendor_that_is_busy_for_a_second_is_waited_for_and_paid_once(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    upstream.queue.append(refusal(429, retry_after=1))
    started = time.monotonic()
    answer = await sdk.connect(acme.key).chat()
    assert answer.choices[0].message.content == "Hello from upstream."
    assert sdk.tries == ["0", "1"] and time.monotonic() - started >= 1
    rows = await usage_rows(gateway.services, acme.tenant_id)
    assert [(row.outcome, row.charge) for row in rows] == [("failed", 0), ("ok", ONE_ANSWER)]
    assert (await balance(gateway.services, acme.tenant_id)).total == BONUS - ONE_ANSWER


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_vendor_that_stays_down_is_tried_three_times_and_costs_nothing(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk, streamed: bool
) -> None:
    upstream.script = lambda _: refusal(500)
    sdk.connect(acme.key)
    with pytest.raises(openai.InternalServerError) as raised:
        await (sdk.read([]) if streamed else sdk.chat())
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_error")
    assert sdk.tries == ["0", "1", "2"] and len(upstream.requests) == 3
    rows = await usage_rows(gateway.services, acme.tenant_id)
    assert [row.charge for row in rows] == [0, 0, 0]
    assert (await balance(gateway.services, acme.tenant_id)).available == BONUS


async def test_the_id_of_a_vendors_failure_is_the_id_of_its_usage_row(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    upstream.queue.append(refusal(500))
    with pytest.raises(openai.InternalServerError) as raised:
        await sdk.connect(acme.key, max_retries=0).chat()
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert raised.value.request_id == f"req_{row.id.hex}"
    assert raised.value.response.headers["x-generation-id"] == f"gen_{row.id.hex}"


CUTS = {
    "a reset": End.RESET,
    "a close": End.CLOSE,
    "silence": End.HANG,
}


@pytest.mark.parametrize("how", CUTS)
async def test_a_stream_that_breaks_raises_and_is_neither_retried_nor_taken_for_an_end(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk, how: str
) -> None:
    upstream.queue.append(stream(9, gap=0.005, cut_after=3, end=CUTS[how]))
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as raised:
        await sdk.connect(acme.key).read(chunks)
    assert raised.value.code == "upstream_error" and "broke off" in raised.value.message
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 3
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks)
    assert sdk.tries == ["0"] and len(upstream.requests) == 1
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert row.outcome in ("cut", "timeout") and row.output_tokens == 3


async def test_ids_are_in_the_headers_and_lead_to_the_receipt(
    gateway: Running, acme: Customer, sdk: Sdk
) -> None:
    sdk.connect(acme.key)
    raw = await sdk.run(sdk.client.chat.completions.with_raw_response.create, **ASK)
    answer = raw.parse()
    assert raw.headers["x-request-id"].startswith("req_") and answer._request_id == raw.request_id
    assert raw.headers["x-generation-id"] == answer.id
    streamed = (await sdk.read([]))[0].id
    for generation in (answer.id, streamed):
        found = await gateway.client.get("/v1/generation", params={"id": generation}, headers=acme.headers)
        assert found.status_code == 200 and generation in found.text


async def test_models_are_listed_and_found_by_ids_with_a_slash(
    gateway: Running, acme: Customer, sdk: Sdk
) -> None:
    sdk.connect(acme.key)
    listed = {model.id for model in (await sdk.run(sdk.client.models.list)).data}
    assert {"gpt-4o", "anthropic/claude-haiku-4.5"} <= listed
    one = await sdk.run(sdk.client.models.retrieve, "anthropic/claude-haiku-4.5")
    assert (one.id, one.object) == ("anthropic/claude-haiku-4.5", "model")
    for missing in ("nobody/knows-it", "gpt-9"):
        with pytest.raises(openai.NotFoundError) as raised:
            await sdk.run(sdk.client.models.retrieve, missing)
        assert raised.value.code == "model_not_found" and raised.value.request_id


async def test_leaving_a_stream_early_closes_the_vendors(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    upstream.queue.append(stream(1000, gap=0.02))
    chunks = await sdk.connect(acme.key).read([], most=5)
    await upstream.until(lambda: upstream.aborted == 1, within=1.0)
    (row,) = await settled(gateway.services, acme.tenant_id)
    assert row.outcome == "client_gone" and len(chunks) - 1 <= row.output_tokens < 50
    assert (await balance(gateway.services, acme.tenant_id)).total == BONUS - row.charge


async def test_a_clients_timeout_on_a_stream_is_its_own_and_costs_nothing(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    upstream.script = lambda _: hang()
    # Below the wait for the first block: afterwards our comments keep the connection alive.
    sdk.connect(acme.key, timeout=0.2, max_retries=1)
    with pytest.raises(openai.APITimeoutError):
        await sdk.read([])
    assert sdk.tries == ["0", "1"]
    await upstream.until(lambda: upstream.aborted == 2)
    rows = await settled(gateway.services, acme.tenant_id, 2)
    assert [(row.outcome, row.charge) for row in rows] == [("client_gone", 0)] * 2
    assert (await balance(gateway.services, acme.tenant_id)).available == BONUS


async def test_a_waiting_stream_outlives_a_read_timeout_longer_than_our_comments(
    acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    upstream.queue.append(stream(2, wait=1.2))
    chunks = await sdk.connect(acme.key, timeout=0.7, max_retries=0).read([])
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_whole_answer_nobody_waited_for_is_made_and_charged_once(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    upstream.queue.append([0.5, completion()])
    with pytest.raises(openai.APITimeoutError):
        await sdk.connect(acme.key, timeout=0.2, max_retries=0).chat()
    (row,) = await settled(gateway.services, acme.tenant_id)
    assert (row.charge, await open_holds(gateway.services, acme.tenant_id)) == (ONE_ANSWER, 0)


async def test_one_client_makes_many_calls_at_once_over_few_connections(
    gateway: Running, acme: Customer, upstream: Upstream, sdk: Sdk
) -> None:
    sdk.connect(acme.key)
    asked = [sdk.chat(user=new_id().hex) for _ in range(20)] + [sdk.read([]) for _ in range(20)]
    answers = await asyncio.gather(*asked)
    ids = {answer.id if isinstance(answer, ChatCompletion) else answer[0].id for answer in answers}
    assert len(ids) == 40 and set(sdk.tries) == {"0"}
    rows = await usage_rows(gateway.services, acme.tenant_id)
    assert {f"gen_{row.id.hex}" for row in rows} == ids
    assert {row.charge for row in rows} == {ONE_ANSWER} and upstream.connections <= 40
