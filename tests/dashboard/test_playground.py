"""The playground: asked over our own /v1, told as it comes, paid in the same books, stopped at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count, pairwise
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from playwright.sync_api import Page, expect

from callmissed_app.states.exchange import Exchange, messages
from tests.dashboard.site import Site, Tab, tab
from tests.dashboard.talking import Talking, named, talking_site, told, until
from tests.upstream import End, Seen, completion, refusal, stream, usage

PATH = "/playground"
STATE = "conversation_state"
# gpt-4o: $2.50 in and $10.00 out per million tokens at 96 credits a dollar; 11 tokens in, one out a word.
IN, OUT = 240, 960

CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}

_people = count()


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talking]:
    with talking_site(tmp_path_factory.mktemp("talking")) as running:
        yield running


@pytest.fixture(scope="module")
def site(talking: Talking) -> Site:
    return talking.site


@pytest.fixture
async def asha(talking: Talking) -> AsyncIterator[Tab]:
    """The tab of an owner who has chosen gpt-4o."""
    talking.vendor.script = lambda _: stream(["Namaste, ", "**Asha**", "!"])
    cookie = talking.site.sign_up(f"talks{next(_people)}@example.com")
    async with tab(talking.site, cookie, path=PATH) as opened:
        await until(opened, "playground_state", loaded=True)
        await opened.call(named("playground_state.choose"), path=PATH, model="gpt-4o")
        yield opened


async def ask(opened: Tab, question: str) -> dict[str, Any]:
    """Ask, and wait for the end of the answer; the exchange."""
    before = len(told(opened, STATE)["exchanges"])
    await opened.call(named(f"{STATE}.send"), path=PATH, form={"message": question})
    async with asyncio.timeout(10):
        while len(told(opened, STATE)["exchanges"]) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await until(opened, STATE, streaming=False)
    return dict(told(opened, STATE)["exchanges"][-1])


def rupees(answer: dict[str, Any]) -> str:
    return str(answer["cost"])


async def test_an_answer_has_its_tokens_its_exact_cost_and_a_receipt(asha: Tab) -> None:
    answer = await ask(asha, "Hello")
    assert (answer["answer"], answer["model"]) == ("Namaste, **Asha**!", "GPT-4o")
    assert answer["used"] == "11 tokens in, 3 out"
    assert rupees(answer) == f"₹0.{11 * IN + 3 * OUT:06}".rstrip("0")
    assert answer["generation"].startswith("gen_") and "in all" in answer["time"]
    assert told(asha, STATE)["total"] == f"{rupees(answer)} in this conversation"


async def test_the_balance_above_follows_each_answer(asha: Tab) -> None:
    await asha.until("₹1,000.00")
    await ask(asha, "Hello")
    await asha.until("₹999.99")


async def test_the_vendor_gets_the_settings_and_all_that_was_said(asha: Tab, talking: Talking) -> None:
    await asha.call(named("playground_state.keep_system"), path=PATH, text="Be brief.")
    await asha.call(named("playground_state.keep_temperature"), path=PATH, text="0.5")
    await asha.call(named("playground_state.keep_max_tokens"), path=PATH, text="64")
    await ask(asha, "One")
    await ask(asha, "Two")
    asked = talking.vendor.requests[-1].json()
    assert (asked["temperature"], asked["max_tokens"], asked["stream"]) == (0.5, 64, True)
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Namaste, **Asha**!"},
        {"role": "user", "content": "Two"},
    ]


async def test_words_come_as_they_come_and_earlier_answers_are_not_sent_again(
    asha: Tab, talking: Talking
) -> None:
    await ask(asha, "First")
    asha.updates.clear()
    talking.vendor.script = lambda _: stream(20, gap=0.02)
    await asha.call(named(f"{STATE}.send"), path=PATH, form={"message": "Slowly"})
    await until(asha, STATE, streaming=True)
    await until(asha, STATE, streaming=False)
    deltas = [delta for update in asha.updates for delta in (update.get("delta") or {}).values()]
    shown = [delta["current_rx_state_"] for delta in deltas if delta.get("current_rx_state_")]
    assert 4 <= len(shown) <= 21 and all(late.startswith(early) for early, late in pairwise(shown))
    assert sum("exchanges_rx_state_" in delta for delta in deltas) == 1


async def test_stopping_closes_the_vendors_connection_and_keeps_what_came(
    asha: Tab, talking: Talking
) -> None:
    aborted = talking.vendor.aborted
    talking.vendor.script = lambda _: stream(500, gap=0.02)
    await asha.call(named(f"{STATE}.send"), path=PATH, form={"message": "Much"})
    await asha.until("word3")
    await asha.call(named(f"{STATE}.stop"), path=PATH)
    await until(asha, STATE, streaming=False)
    [answer] = told(asha, STATE)["exchanges"]
    assert answer["note"] == "Stopped by you." and answer["answer"].startswith("word0 word1 word2 word3")
    assert answer["cost"].startswith("₹0.0") and answer["generation"]
    assert talking.vendor.aborted == aborted + 1


async def test_stopping_before_the_first_word_costs_nothing(asha: Tab, talking: Talking) -> None:
    talking.vendor.script = lambda _: [End.HANG]
    await asha.call(named(f"{STATE}.send"), path=PATH, form={"message": "Hello?"})
    await until(asha, STATE, streaming=True)
    await asyncio.sleep(0.3)
    await asha.call(named(f"{STATE}.stop"), path=PATH)
    await until(asha, STATE, streaming=False)
    [answer] = told(asha, STATE)["exchanges"]
    assert (answer["answer"], answer["cost"]) == ("", "Not charged")


async def test_clearing_ends_the_answer_that_is_coming(asha: Tab, talking: Talking) -> None:
    aborted = talking.vendor.aborted
    talking.vendor.script = lambda _: stream(500, gap=0.02)
    await asha.call(named(f"{STATE}.send"), path=PATH, form={"message": "Much"})
    await asha.until("word3")
    await asha.call(named(f"{STATE}.clear"), path=PATH)
    await until(asha, STATE, streaming=False, current="")
    await asyncio.sleep(0.5)
    assert told(asha, STATE)["exchanges"] == [] and talking.vendor.aborted == aborted + 1


@pytest.mark.slow
async def test_an_answer_outlives_a_reload_but_not_a_closed_page(talking: Talking) -> None:
    aborted = talking.vendor.aborted
    talking.vendor.script = lambda _: stream(5000, gap=0.02)
    token, cookie = str(uuid4()), talking.site.sign_up("leaves@example.com")
    async with tab(talking.site, cookie, token=token, path=PATH) as first:
        await until(first, "playground_state", loaded=True)
        await first.call(named("playground_state.choose"), path=PATH, model="gpt-4o")
        await first.call(named(f"{STATE}.send"), path=PATH, form={"message": "Much"})
        await first.until("word3")
    await asyncio.sleep(1)
    async with tab(talking.site, cookie, token=token, path=PATH) as again:
        await again.until("word99")
        assert told(again, STATE)["asked"] == "Much" and talking.vendor.aborted == aborted
    async with asyncio.timeout(20):
        while talking.vendor.aborted == aborted:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    async with tab(talking.site, cookie, token=token, path=PATH) as later:
        await later.until("because the page was closed")
        assert "word99" in told(later, STATE)["exchanges"][0]["answer"]


async def test_a_cut_answer_says_so_keeps_what_came_and_can_be_tried_again(
    asha: Tab, talking: Talking
) -> None:
    talking.vendor.script = lambda _: stream(20, gap=0.01, cut_after=5, end=End.RESET)
    answer = await ask(asha, "Hello")
    assert answer["answer"] == "word0 word1 word2 word3 word4 " and "broke off" in answer["problem"]
    assert "not charged" not in answer["problem"].lower() and answer["cost"].startswith("₹0.0")
    talking.vendor.script = lambda _: stream(["Whole."])
    await asha.call(named(f"{STATE}.retry"), path=PATH)
    await asha.until("Whole.")
    await until(asha, STATE, streaming=False)
    [again] = told(asha, STATE)["exchanges"]
    assert (again["question"], again["answer"], again["problem"]) == ("Hello", "Whole.", "")


async def test_a_refusal_is_our_sentence_with_what_to_do_and_costs_nothing(
    asha: Tab, talking: Talking
) -> None:
    talking.vendor.script = lambda _: refusal(503)
    answer = await ask(asha, "Hello")
    assert "upstream says no" not in str(answer) and answer["advice"]
    assert (answer["answer"], answer["cost"]) == ("", "Not charged")


async def test_a_call_beyond_the_balance_says_so_and_what_to_do(asha: Tab, talking: Talking) -> None:
    # gpt-5.5 costs 2,880 credits a million tokens out: 128,000 of them are 368.64.
    used = json.dumps({**CHUNK, "choices": [], "usage": usage(128_000)}).encode()
    talking.vendor.script = lambda _: stream(1, with_usage=False, insert={1: b"data: " + used + b"\n\n"})
    await asha.call(named("playground_state.choose"), path=PATH, model="gpt-5.5")
    await asha.call(named("playground_state.keep_max_tokens"), path=PATH, text="128000")
    assert [rupees(await ask(asha, "Much"))[:4] for _ in range(2)] == ["₹368", "₹368"]
    answer = await ask(asha, "And more")
    assert "Insufficient credits" in answer["problem"] and "Lower max tokens" in answer["advice"]
    assert answer["cost"] == "Not charged"


async def test_settings_out_of_range_are_said_and_nothing_is_asked(asha: Tab, talking: Talking) -> None:
    asked = len(talking.vendor.requests)
    await asha.call(named("playground_state.keep_temperature"), path=PATH, text="9")
    await asha.call(named("playground_state.keep_max_tokens"), path=PATH, text="-1")
    told_options = await until(asha, "playground_state", temperature_error="A number from 0 to 2.")
    assert told_options["max_tokens_error"].startswith("A whole number from 1 to")
    await asha.call(named(f"{STATE}.send"), path=PATH, form={"message": "Hello"})
    await asha.until("Mend the settings first")
    assert len(talking.vendor.requests) == asked


@pytest.mark.parametrize("form", [{}, {"message": "  "}, {"message": None}, {"message": ["x"]}])
async def test_an_empty_question_asks_nothing(asha: Tab, talking: Talking, form: dict[str, Any]) -> None:
    asked = len(talking.vendor.requests)
    await asha.call(named(f"{STATE}.send"), path=PATH, form=form)
    await asyncio.sleep(0.3)
    if form.get("message") != ["x"]:
        assert len(talking.vendor.requests) == asked
    assert told(asha, STATE)["streaming"] is False


async def test_only_what_answers_is_offered_and_the_rest_names_its_setting(asha: Tab) -> None:
    options = told(asha, "playground_state")
    assert {offer["id"] for offer in options["offers"]} == {"gpt-4o", "gpt-4.1", "gpt-5-mini", "gpt-5.5"}
    assert "more models: set OPENROUTER_API_KEY" in options["more"]
    assert {"CLARIFAI_API_KEY", "SARVAM_API_KEY"} < {group["setting"] for group in options["missing"]}


async def test_no_key_of_the_playground_reaches_the_browser(asha: Tab) -> None:
    await ask(asha, "Hello")
    await asha.call(named(f"{STATE}.show_code"), path=PATH, language="python")
    await asha.until("cm_live_YOUR_KEY")
    assert str(asha.updates).count("cm_live_") == str(asha.updates).count("cm_live_YOUR_KEY")


def test_exchanges_without_an_answer_are_not_repeated() -> None:
    def said(question: str, answer: str) -> Exchange:
        return Exchange(question, answer, "", "", "", "", "", "", "", "", "")

    assert [line["content"] for line in messages([said("a", "A"), said("b", ""), said("c", "C")], "d")] == [
        "a",
        "A",
        "c",
        "C",
        "d",
    ]


@pytest.mark.browser
def test_the_keyboard_sends_and_stops_and_a_hostile_answer_is_only_text(talking: Talking, page: Page) -> None:
    hostile = '<img src=x onerror="document.title=1"> <iframe srcdoc="<script>top.document.title=2</script>">'
    link = "[here](javascript:document.title=3) ![pixel](http://127.0.0.1:9/x.png)"

    def answers(request: Seen) -> Any:
        question = request.json()["messages"][-1]["content"]
        return stream(500, gap=0.02) if question == "Much" else stream([hostile, "\n\n", link])

    talking.vendor.script = answers
    name, _, value = talking.site.sign_up("keys@example.com").partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": talking.site.url}])
    page.goto(PATH)
    page.get_by_label("Model", exact=True).select_option("gpt-4o")
    page.get_by_label("Your message").fill("Hello")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Receipt")).to_be_visible()
    expect(page.locator(".answer")).to_contain_text("<iframe srcdoc=")
    assert page.locator(".answer iframe, .answer img").count() == 0
    assert not (page.get_by_role("link", name="here").get_attribute("href") or "").startswith("javascript")
    page.get_by_label("Your message").fill("Much")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("word3")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped by you.")).to_be_visible()
    assert page.title().startswith("Playground")
    page.reload()
    expect(page.get_by_text("Stopped by you.")).to_be_visible()


def test_the_vendors_whole_answer_costs_the_same_with_a_key(talking: Talking) -> None:
    """The playground is production: the same question through /v1 is charged the same."""
    talking.vendor.script = lambda _: completion("Namaste", tokens=3)
    cookie = talking.site.sign_up("both@example.com")
    with httpx2.Client(
        base_url=talking.site.url, headers={"cookie": cookie, "origin": talking.site.url}
    ) as web:
        key = web.post("/api/v1/keys", json={"name": "app"}).raise_for_status().json()["key"]
    answer = httpx2.post(
        f"{talking.site.url}/v1/chat/completions",
        json={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
        headers={"authorization": f"Bearer {key}"},
    ).raise_for_status()
    assert answer.headers["x-credits-charged"] == f"0.{11 * IN + 3 * OUT:06}".rstrip("0")
