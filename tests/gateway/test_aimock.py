"""An upstream nobody here wrote, behind `OPENAI_BASE_URL`, called through the official SDK.

Answers and faults arrive as OpenAI documents them, and every charge is usage times price.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from api.money import MICRO, credits_text
from api.settings import Settings
from tests.gateway.aimock import CALLS, GREETING, LONG, USAGE, Aimock, aimock_process
from tests.gateway.test_chat import IN, OUT
from tests.running import Customer, Running, balance, settled, usage_rows

WHOLE = 1000 * MICRO
ONE_ANSWER = USAGE["prompt_tokens"] * IN + USAGE["completion_tokens"] * OUT
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for _, name, _ in CALLS
]
WITH_USAGE: Any = {"include_usage": True}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    with aimock_process(tmp_path_factory.mktemp("aimock")) as started:
        yield started


@pytest.fixture
async def aimock(child: Aimock) -> Aimock:
    """Healthy, with an empty journal."""
    await child.behave()
    return child


@pytest.fixture
def gateway_settings(database_settings: Settings, aimock: Aimock) -> Settings:
    return database_settings.model_copy(
        update={
            "vendors": {"OPENAI_BASE_URL": aimock.url},
            "local": False,
            "first_block_wait": 2.0,
            "stall_timeout": 1.0,
            "connect_timeout": 1.0,
            "request_deadline": 5.0,
        }
    )


@pytest.fixture
async def sdk(gateway: Running, acme: Customer) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client with one try, so that an error is the gateway's first word."""
    async with openai.AsyncOpenAI(api_key=acme.key, base_url=f"{gateway.url}/v1", max_retries=0) as client:
        yield client


def ask(word: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": word}], "max_tokens": 50, **more}


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def charged_once(gateway: Running, acme: Customer, charge: int) -> None:
    """One usage row with this charge, and the wallet is short of exactly that."""
    (row,) = await settled(gateway.services, acme.tenant_id)
    left = await balance(gateway.services, acme.tenant_id)
    assert (row.charge, left.total, left.held) == (charge, WHOLE - charge, 0)


async def test_a_whole_answer_is_charged_by_the_usage_it_reports(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI
) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(**ask("greet"))
    answer = raw.parse()
    assert answer.choices[0].message.content == GREETING and answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.total_tokens == USAGE["total_tokens"]
    assert raw.headers["x-credits-charged"] == credits_text(ONE_ANSWER)
    await charged_once(gateway, acme, ONE_ANSWER)


async def test_its_own_reckoning_of_usage_is_what_counts_when_the_script_gives_none(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI
) -> None:
    answer = await sdk.chat.completions.create(**ask("count"))
    assert answer.usage is not None and answer.usage.completion_tokens > 5
    charge = answer.usage.prompt_tokens * IN + answer.usage.completion_tokens * OUT
    await charged_once(gateway, acme, charge)


async def test_a_streamed_answer_has_every_character_and_costs_what_the_whole_one_costs(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI
) -> None:
    chunks = [chunk async for chunk in await sdk.chat.completions.create(**ask("greet"), stream=True)]
    assert text_of(chunks) == GREETING
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in chunks), "usage was not asked for"
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].id.startswith("gen_")
    await charged_once(gateway, acme, ONE_ANSWER)


async def test_usage_that_was_asked_for_comes_last_and_once(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI
) -> None:
    asked = ask("greet", stream=True, stream_options=WITH_USAGE)
    chunks = [chunk async for chunk in await sdk.chat.completions.create(**asked)]
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]
    assert last.choices == [] and last.usage is not None
    assert last.usage.completion_tokens == USAGE["completion_tokens"]
    await charged_once(gateway, acme, ONE_ANSWER)


async def test_an_agent_calls_tools_and_reads_their_results(
    gateway: Running, acme: Customer, aimock: Aimock, sdk: openai.AsyncOpenAI
) -> None:
    first = await sdk.chat.completions.create(**ask("weather", tools=TOOLS))
    message = first.choices[0].message
    calls = message.tool_calls or []
    found = [(c.id, c.function.name, json.loads(c.function.arguments)) for c in calls if c.type == "function"]
    assert found == list(CALLS) and first.choices[0].finish_reason == "tool_calls"
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    turns = [*ask("weather")["messages"], message.model_dump(exclude_none=True), *results]
    second = await sdk.chat.completions.create(**ask("weather", tools=TOOLS) | {"messages": turns})
    assert second.choices[0].message.content == "Clear skies."
    sent = [request["body"]["messages"] for request in await aimock.requests()]
    assert [len(messages) for messages in sent] == [1, 4]
    rows = await usage_rows(gateway.services, acme.tenant_id)
    assert [(row.charge, row.finish_reason) for row in rows] == [
        (ONE_ANSWER, "tool_calls"),
        (ONE_ANSWER, "stop"),
    ]


async def test_streamed_tool_calls_are_put_together_by_the_sdk(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI
) -> None:
    asked = ask("weather", tools=TOOLS)
    async with sdk.chat.completions.stream(**asked) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    found = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls]
    assert found == list(CALLS) and final.choices[0].finish_reason == "tool_calls"
    await charged_once(gateway, acme, ONE_ANSWER)


async def test_a_schema_for_the_answer_reaches_the_vendor_and_the_answer_fits_it(
    aimock: Aimock, sdk: openai.AsyncOpenAI
) -> None:
    schema = {"name": "names", "strict": True, "schema": {"type": "object", "additionalProperties": False}}
    asked = ask("entities", response_format={"type": "json_schema", "json_schema": schema})
    answer = await sdk.chat.completions.create(**asked)
    assert json.loads(answer.choices[0].message.content or "") == {"names": ["Asha", "Ravi"]}
    (seen,) = await aimock.requests()
    assert seen["body"]["response_format"]["json_schema"] == schema


REFUSALS = {"throttle": (503, "provider_error"), "crash": (502, "upstream_error")}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("word", REFUSALS)
async def test_a_scripted_refusal_is_an_internal_server_error_in_our_words_and_costs_nothing(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI, word: str, streamed: bool
) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        await sdk.chat.completions.create(**ask(word, stream=streamed))
    assert (raised.value.status_code, raised.value.code) == REFUSALS[word]
    assert "own words" not in str(raised.value)
    assert word != "throttle" or raised.value.response.headers["retry-after"] == "9"
    await charged_once(gateway, acme, 0)


FAULTS: dict[str, tuple[dict[str, float], int]] = {
    "a 500": ({"dropRate": 1}, 502),
    "a 429": ({"rateLimitRate": 1}, 503),
    "a closed connection": ({"disconnectRate": 1}, 502),
    "no JSON": ({"malformedRate": 1}, 502),
    "a 500 after a while": ({"dropRate": 1, "latencyMs": 300}, 502),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_injected_fault_is_an_internal_server_error_and_costs_nothing(
    gateway: Running, acme: Customer, aimock: Aimock, sdk: openai.AsyncOpenAI, fault: str, streamed: bool
) -> None:
    rates, status = FAULTS[fault]
    await aimock.misbehave(**rates)
    with pytest.raises(openai.InternalServerError) as raised:
        async with asyncio.timeout(3):
            await sdk.chat.completions.create(**ask("greet", stream=streamed))
    assert raised.value.status_code == status and "haos" not in str(raised.value)
    await charged_once(gateway, acme, 0)


async def test_latency_delays_an_answer_and_changes_nothing_else(
    gateway: Running, acme: Customer, aimock: Aimock, sdk: openai.AsyncOpenAI
) -> None:
    await aimock.misbehave(latencyMs=400)
    answer = await sdk.chat.completions.create(**ask("greet"))
    assert answer.choices[0].message.content == GREETING
    await charged_once(gateway, acme, ONE_ANSWER)
    (row,) = await usage_rows(gateway.services, acme.tenant_id)
    assert row.latency_ms >= 400


async def test_a_slow_stream_arrives_piece_by_piece(sdk: openai.AsyncOpenAI) -> None:
    loop = asyncio.get_running_loop()
    asked = await sdk.chat.completions.create(**ask("slow", stream=True))
    arrivals = [(loop.time(), chunk) async for chunk in asked]
    spread = arrivals[-1][0] - arrivals[0][0]
    assert text_of([chunk for _, chunk in arrivals]) == GREETING and spread > 0.1


@pytest.mark.parametrize("word", ["cut", "vanish"])
async def test_a_stream_cut_in_the_middle_raises_and_never_looks_like_an_end(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI, word: str
) -> None:
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as raised:
        async with asyncio.timeout(3):
            async for chunk in await sdk.chat.completions.create(**ask(word, stream=True)):
                chunks.append(chunk)
    assert raised.value.code == "upstream_error"
    said = text_of(chunks)
    assert said and said != LONG and LONG.startswith(said)
    (row,) = await settled(gateway.services, acme.tenant_id)
    pieces = sum(bool(chunk.choices[0].delta.content) for chunk in chunks)
    assert (row.outcome, row.usage_source, row.output_tokens) == ("cut", "estimate", pieces)
    await charged_once(gateway, acme, row.input_tokens * IN + pieces * OUT)


async def test_a_client_that_stops_reading_frees_the_vendor_and_pays_for_what_it_got(
    gateway: Running, acme: Customer, sdk: openai.AsyncOpenAI
) -> None:
    stream = await sdk.chat.completions.create(**ask("forever", stream=True))
    seen = 0
    async for chunk in stream:
        seen += bool(chunk.choices[0].delta.content)
        if seen == 3:
            break
    await stream.close()
    (row,) = await settled(gateway.services, acme.tenant_id)
    assert row.outcome == "client_gone" and 3 <= row.output_tokens <= 6
    await charged_once(gateway, acme, row.input_tokens * IN + row.output_tokens * OUT)


async def test_the_vendor_is_asked_once_for_each_call_and_never_again_by_us(
    aimock: Aimock, sdk: openai.AsyncOpenAI
) -> None:
    await aimock.misbehave(dropRate=1)
    with pytest.raises(openai.InternalServerError):
        await sdk.chat.completions.create(**ask("greet"))
    assert len(await aimock.requests()) == 1
