"""No call is free, none is charged twice, and no wallet goes below zero, however requests end."""

import asyncio
import json

import pytest

from api.money import MICRO
from tests.gateway.test_chat import ASK, CHAT, IN, ONE_ANSWER, OUT, data_lines
from tests.running import Customer, Running, balance, customer, open_holds, settled, usage_rows
from tests.upstream import (
    GARBAGE,
    HALF_JSON,
    End,
    Upstream,
    gzipped,
    hang,
    redirect,
    refusal,
    stream,
    whole,
    wrong_length,
)

STREAM = ASK | {"stream": True}


async def test_five_hundred_calls_at_once_on_a_wallet_for_ten_give_exactly_ten(
    gateway: Running, upstream: Upstream
) -> None:
    # A hold is an estimate of the prompt and 50 tokens of output; an answer uses all of it here.
    request_tokens = 9
    held = request_tokens * IN + 50 * OUT
    upstream.script = lambda _: whole(
        {
            "id": "x",
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": request_tokens, "completion_tokens": 50},
        }
    )
    ten = await customer(gateway.services, credits=f"{10 * held / MICRO:.6f}")
    answers = await asyncio.gather(
        *(gateway.client.post(CHAT, json=ASK, headers=ten.headers) for _ in range(500))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 10 + [402] * 490
    left = await balance(gateway.services, ten.tenant_id)
    assert (left.total, left.held) == (0, 0)
    assert len(upstream.requests) == 10
    assert len(await usage_rows(gateway.services, ten.tenant_id)) == 10
    poor = next(answer for answer in answers if answer.status_code == 402)
    assert poor.json()["error"]["code"] == "insufficient_credits"
    assert poor.headers["x-should-retry"] == "false" and "x-credits-balance" in poor.headers


FAILURES = {
    "500": refusal(500),
    "503": refusal(503, retry_after=7),
    "429": refusal(429, retry_after=7),
    "401 of our key": refusal(401),
    "403 as a page": refusal(403, "html"),
    "404 of our model name": refusal(404, "list"),
    "a redirect": redirect("http://127.0.0.1:1/elsewhere"),
    "an error inside a 200": refusal(200),
    "no JSON": whole(b"<html>", 200),
    "an empty object": whole({}),
    "no choice": whole({"id": "x", "model": "m", "choices": [], "usage": {"prompt_tokens": 5}}),
    "a gzip bomb": gzipped({"choices": [{}]}),
    "too short a body": wrong_length(100),
    "a reset": [End.RESET],
    "a close": [End.CLOSE],
}


@pytest.mark.parametrize("fault", FAILURES)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_vendor_that_fails_before_the_first_byte_costs_nothing_and_its_words_stay_inside(
    gateway: Running, acme: Customer, upstream: Upstream, fault: str, streamed: bool
) -> None:
    upstream.script = lambda _: FAILURES[fault]
    answer = await gateway.client.post(CHAT, json=ASK | {"stream": streamed}, headers=acme.headers)
    assert answer.status_code in (502, 503), answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "upstream says no" not in answer.text and "Traceback" not in answer.text
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "7"
    left = await balance(gateway.services, acme.tenant_id)
    assert (left.total, left.held) == (1000 * MICRO, 0)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.charge, row.outcome, row.status_code) == (0, "failed", answer.status_code)
    assert await open_holds(gateway.services, acme.tenant_id) == 0


async def test_a_request_the_vendor_refuses_is_a_400_of_ours(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(refusal(400))
    answer = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    assert answer.status_code == 400 and "upstream says no" not in answer.text
    assert (await balance(gateway.services, acme.tenant_id)).total == 1000 * MICRO


async def test_too_long_a_conversation_says_so(gateway: Running, acme: Customer, upstream: Upstream) -> None:
    upstream.queue.append(whole({"error": {"code": "context_length_exceeded", "message": "x"}}, 400))
    answer = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_vendor_that_hangs_is_given_up_at_the_deadline(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    object.__setattr__(gateway.services.settings, "request_deadline", 1.0)
    upstream.queue.append(hang())
    answer = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    assert answer.status_code == 502
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.outcome, row.charge) == ("timeout", 0)


BREAKS = {
    "a reset": stream(5, gap=0.005, cut_after=3, end=End.RESET),
    "a clean close": stream(5, gap=0.005, cut_after=3, end=End.CLOSE),
    "a half close": stream(5, gap=0.005, cut_after=3, end=End.HALF),
    "silence": stream(5, gap=0.005, cut_after=3, end=End.HANG),
    "garbage": stream(5, gap=0.005, insert={3: GARBAGE}),
    "half a chunk": stream(5, gap=0.005, insert={3: HALF_JSON}),
}


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_stream_that_breaks_ends_in_an_error_and_is_charged_what_was_sent(
    gateway: Running, acme: Customer, upstream: Upstream, fault: str
) -> None:
    upstream.queue.append(BREAKS[fault])
    answer = await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    lines = data_lines(answer.text)
    assert "[DONE]" not in lines and json.loads(lines[-1])["error"]["code"] == "upstream_error"
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    sent = sum(bool(c["choices"][0]["delta"].get("content")) for c in map(json.loads, lines[:-1]))
    assert row.output_tokens == sent == 3 and row.usage_source == "estimate"
    assert row.outcome in ("cut", "timeout")
    left = await balance(gateway.services, acme.tenant_id)
    assert (left.total, left.held) == (1000 * MICRO - row.charge, 0)


async def test_another_target_answers_when_the_first_fails_before_its_first_byte(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    model = gateway.services.catalog.models["gpt-4o"]
    second = model.targets[0].__class__(vendor="openrouter", model="openai/gpt-4o")
    object.__setattr__(model, "targets", (*model.targets, second))
    upstream.queue.append(refusal(503))
    answer = await gateway.client.post(CHAT, json=ASK, headers=acme.headers)
    assert answer.status_code == 200 and len(upstream.requests) == 2
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert (row.provider, row.attempts, row.charge) == ("openrouter", 2, ONE_ANSWER)


@pytest.mark.parametrize("after", [0, 2])
async def test_a_client_that_leaves_closes_the_vendors_stream_and_is_charged_what_was_sent(
    gateway: Running, acme: Customer, upstream: Upstream, after: int
) -> None:
    upstream.queue.append(stream(100, wait=0.0 if after else 0.2, gap=0.05))
    async with gateway.client.stream("POST", CHAT, json=STREAM, headers=acme.headers) as answer:
        seen = 0
        async for line in answer.aiter_lines():
            seen += '"content":"word' in line or '"content": "word' in line
            if seen >= after:
                break
    await upstream.until(lambda: upstream.aborted == 1)
    rows = await settled(gateway.services, acme.tenant_id)
    assert rows[0].outcome == "client_gone" and rows[0].output_tokens <= seen + 3
    left = await balance(gateway.services, acme.tenant_id)
    assert (left.total, left.held) == (1000 * MICRO - rows[0].charge, 0)


async def test_a_client_that_leaves_before_the_first_byte_pays_nothing(
    gateway: Running, acme: Customer, upstream: Upstream
) -> None:
    upstream.queue.append(hang())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await gateway.client.post(CHAT, json=STREAM, headers=acme.headers)
    await upstream.until(lambda: upstream.aborted == 1)
    rows = await settled(gateway.services, acme.tenant_id)
    assert (rows[0].outcome, rows[0].charge) == ("client_gone", 0)
    assert (await balance(gateway.services, acme.tenant_id)).total == 1000 * MICRO


async def test_a_key_budget_is_a_ceiling_of_its_own(gateway: Running, upstream: Upstream) -> None:
    limited = await customer(gateway.services, budget_limit=60_000)
    statuses = [
        (await gateway.client.post(CHAT, json=ASK, headers=limited.headers)).status_code for _ in range(4)
    ]
    assert statuses == [200, 200, 402, 402]
    refused = await gateway.client.post(CHAT, json=ASK, headers=limited.headers)
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert (await balance(gateway.services, limited.tenant_id)).total == 1000 * MICRO - 2 * ONE_ANSWER
