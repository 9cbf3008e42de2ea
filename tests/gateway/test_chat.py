"""`POST /v1/chat/completions`: what the caller gets, what it costs, and one usage row."""

import asyncio
import json

import openai
import pytest

from api.money import credits_text
from tests.running import Customer, Running, balance, customer, open_holds, usage_rows
from tests.upstream import COMMENT, Upstream, completion, refusal, stream

CHAT = "/v1/chat/completions"
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
# gpt-4o: $2.50 in and $10.00 out per million tokens at 96 credits a dollar.
IN, OUT = 240, 960
ONE_ANSWER = 11 * IN + 5 * OUT


def data_lines(text: str) -> list[str]:
    return [line[6:] for line in text.split("\n") if line.startswith("data: ")]


async def test_a_whole_answer_is_the_vendors_under_our_id_and_name(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    answer = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"]["content"] == "Hello from upstream."
    assert body["id"] == answer.headers["x-generation-id"] and body["id"].startswith("gen_")
    assert body["model"] == "gpt-4o" and body["usage"]["total_tokens"] == 16
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream-secret"


async def test_the_charge_is_price_times_tokens_and_is_in_the_books_before_the_answer(
    gateway: Running, acme: Customer
) -> None:
    answer = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    left = await balance(gateway.services, acme.tenant_id)
    assert (left.total, left.held) == (1_000_000_000 - ONE_ANSWER, 0)
    assert answer.headers["x-credits-charged"] == credits_text(ONE_ANSWER)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.charge, row.input_tokens, row.output_tokens, row.outcome) == (ONE_ANSWER, 11, 5, "ok")
    assert f"gen_{row.id.hex}" == answer.json()["id"] and row.usage_source == "provider"


async def test_every_field_of_the_request_is_passed_on(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    fields = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "seed": 7,
        "stop": ["x"],
        "logit_bias": {"1": 2},
        "a_field_of_tomorrow": {"deep": [1, 2.50]},
    }
    await gateway.client.post(CHAT, json=ASK | fields, headers=acme.headers)
    sent = upstream.requests[0].json()
    assert {name: sent[name] for name in fields} == fields and sent["model"] == "gpt-4o"


async def test_a_stream_is_the_vendors_events_and_ends_in_done(gateway: Running, acme: Customer) -> None:
    answer = await gateway.client.post(CHAT, json=ASK | {"stream": True}, headers=acme.headers)
    lines = data_lines(answer.text)
    assert lines[-1] == "[DONE]" and answer.headers["content-type"].startswith("text/event-stream")
    chunks = [json.loads(line) for line in lines[:-1]]
    assert {(c["id"], c["model"]) for c in chunks} == {(answer.headers["x-generation-id"], "gpt-4o")}
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "".join(
        f"word{n} " for n in range(5)
    )
    assert not any(c.get("usage") for c in chunks)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.streamed, row.charge, row.finish_reason) == (True, ONE_ANSWER, "stop")


async def test_usage_is_streamed_when_it_was_asked_for(gateway: Running, acme: Customer) -> None:
    ask = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    answer = await gateway.client.post(CHAT, json=ask, headers=acme.headers)
    last = json.loads(data_lines(answer.text)[-2])
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 5


async def test_the_official_sdk_chats_and_streams(gateway: Running, acme: Customer) -> None:
    async with openai.AsyncOpenAI(api_key=acme.key, base_url=f"{gateway.url}/v1", max_retries=0) as sdk:
        whole = await sdk.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=50
        )
        assert whole.choices[0].message.content == "Hello from upstream."
        parts = [
            chunk
            async for chunk in await sdk.chat.completions.create(
                model="gpt-4o",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        assert parts[-1].usage and parts[-1].usage.total_tokens == 16
        assert "gpt-4o" in {model.id for model in (await sdk.models.list()).data}


async def test_headers_leave_with_the_first_block_not_with_the_last(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(stream(4, gap=0.2))
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with gateway.client.stream(
        "POST", CHAT, json=ASK | {"stream": True}, headers=acme.headers
    ) as answer:
        arrivals = [loop.time() - started async for _ in answer.aiter_text()]
    assert arrivals[0] < 0.15 and arrivals[-1] > 0.8


async def test_a_silent_vendor_is_bridged_with_comments(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(stream(2, wait=0.8))
    answer = await gateway.client.post(CHAT, json=ASK | {"stream": True}, headers=acme.headers)
    assert answer.text.startswith(": keep-alive\n\n") and answer.text.count(": keep-alive") >= 2
    assert data_lines(answer.text)[-1] == "[DONE]"


async def test_a_refusal_after_the_comments_comes_as_an_event_and_costs_nothing(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append([0.6, refusal(500)])
    answer = await gateway.client.post(CHAT, json=ASK | {"stream": True}, headers=acme.headers)
    assert answer.status_code == 200 and "[DONE]" not in answer.text
    assert json.loads(data_lines(answer.text)[-1])["error"]["code"] == "upstream_error"
    assert (await balance(gateway.services, acme.tenant_id)).total == 1_000_000_000


async def test_a_vendor_that_reports_no_usage_is_estimated_and_marked(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue += [completion(tokens=None), stream(5, with_usage=False)]
    await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    await gateway.client.post(CHAT, json=ASK | {"stream": True}, headers=acme.headers)
    whole, streamed = await usage_rows(gateway.services, acme.tenant_id)
    assert whole.usage_source == streamed.usage_source == "estimate"
    assert streamed.output_tokens == 5 and whole.charge > 0 and whole.provider_loss == 0


async def test_a_vendors_impossible_figures_are_not_charged(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(completion(tokens=10**9))
    await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert row.usage_source == "estimate" and row.charge < 1_000_000


async def test_a_vendors_comments_do_not_count_as_an_answer(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(stream(3, insert={0: COMMENT, 2: COMMENT}))
    answer = await gateway.client.post(CHAT, json=ASK | {"stream": True}, headers=acme.headers)
    assert "OPENROUTER" not in answer.text and data_lines(answer.text)[-1] == "[DONE]"


async def test_a_wallet_that_empties_in_mid_stream_stops_with_length_and_says_why(
    gateway: Running, upstream: Upstream
) -> None:
    poor = await customer(gateway.services, credits="4")
    upstream.queue.append(stream(9000))
    ask = {"model": "gpt-4o", "messages": ASK["messages"], "stream": True}
    answer = await gateway.client.post(CHAT, json=ask, headers=poor.headers)
    lines = data_lines(answer.text)
    last = json.loads(lines[-2])
    assert lines[-1] == "[DONE]" and last["choices"][0]["finish_reason"] == "length"
    assert last["callmissed"]["reason"] == "insufficient_credits"
    left = await balance(gateway.services, poor.tenant_id)
    assert left.total >= 0 and left.held == 0
    (row,) = await usage_rows(gateway.services, poor.tenant_id)
    assert row.charge == 4_000_000 - left.total and row.output_tokens < 9000


async def test_an_answer_dearer_than_its_hold_is_charged_what_the_wallet_has_and_the_rest_is_ours(
    gateway: Running, upstream: Upstream
) -> None:
    poor = await customer(gateway.services, credits="0.06")
    upstream.queue.append(completion(tokens=1000))
    answer = await gateway.client.post(CHAT, json=ASK | {"max_tokens": 50}, headers=poor.headers)
    assert answer.status_code == 200
    (row,) = await usage_rows(gateway.services, poor.tenant_id)
    assert row.charge == 60_000 and row.charge + row.provider_loss == 11 * IN + 1000 * OUT
    assert (await balance(gateway.services, poor.tenant_id)).total == 0


async def test_a_thousand_credits_carry_fifty_ordinary_calls_at_once_on_the_dearest_model(
    gateway: Running, acme: Customer
) -> None:
    models = gateway.services.catalog.models.values()
    dearest = max(models, key=lambda model: model.prices["output"])
    ask = {"model": dearest.id, "messages": ASK["messages"]}
    answers = await asyncio.gather(
        *(gateway.client.post(CHAT, json=ask, headers=acme.headers) for _ in range(50))
    )
    assert [answer.status_code for answer in answers] == [200] * 50


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_test_key_moves_no_money_and_marks_its_rows(gateway: Running, streamed: bool) -> None:
    tester = await customer(gateway.services, kind="test")
    answer = await gateway.client.post(CHAT, json=ASK | {"stream": streamed}, headers=tester.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    assert await open_holds(gateway.services, tester.tenant_id) == 0
