"""The usage page: the same sums as the books, filters in the address, a receipt that adds up."""

import asyncio
import base64
import csv
import io
import sqlite3
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any
from urllib.parse import unquote_plus

import httpx2
import pytest

from api.usage.reports import Figures
from callmissed_app.states.figures import ago, duration, rupees, size
from callmissed_app.states.figures import count as grouped
from callmissed_app.states.receipt import exact_rupees, outcome_of
from callmissed_app.states.usage import bars, model
from callmissed_app.states.usage_view import View, address, view_of_address
from tests.dashboard.site import Tab, tab
from tests.dashboard.talking import Talking, named, talking_site, told, until
from tests.upstream import completion, refusal

STATE = "requests_state"
# gpt-4o: $2.50 in and $10.00 out per million tokens at 96 credits a dollar; 11 tokens in, 5 out.
ONE = 11 * 240 + 5 * 960

_people = count()


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talking]:
    with talking_site(tmp_path_factory.mktemp("usage")) as running:
        yield running


class Person:
    """Somebody with a key who has called three models, once in vain."""

    def __init__(self, talking: Talking) -> None:
        self.site, self.vendor = talking.site, talking.vendor
        self.email = f"usage{next(_people)}@example.com"
        self.cookie = self.site.sign_up(self.email)
        headers = {"cookie": self.cookie, "origin": self.site.url}
        made = httpx2.post(f"{self.site.url}/api/v1/keys", json={"name": "App"}, headers=headers)
        self.key, self.key_id = made.json()["key"], made.json()["id"]
        self.vendor.script = lambda request: (
            refusal(500) if request.json()["model"] == "gpt-4.1" else completion("Namaste")
        )
        self.ids = [self.ask(name) for name in ("gpt-4o", "gpt-4.1", "gpt-4o")]

    def ask(self, name: str) -> str:
        body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx2.post(f"{self.site.url}/v1/chat/completions", json=body, headers=headers)
        return answer.headers["x-generation-id"]


@pytest.fixture(scope="module")
def asha(talking: Talking) -> Person:
    return Person(talking)


@pytest.fixture
async def page(asha: Person) -> AsyncIterator[Tab]:
    async with tab(asha.site, asha.cookie, path="/usage") as opened:
        await until(opened, STATE, loaded=True)
        yield opened


async def load(opened: Tab, path: str) -> dict[str, Any]:
    """What the log shows at this address."""
    opened.updates.clear()
    await opened.call(named("usage_state.load"), path=path)
    await opened.call(named(f"{STATE}.load"), path=path)
    await opened.until("rows_rx_state_")
    return told(opened, STATE)


async def test_the_sums_are_those_of_the_books(page: Tab, asha: Person) -> None:
    sums = told(page, "usage_state")
    assert (sums["spent"], sums["requests"], sums["success"]) == (rupees(2 * ONE), "3", "66.6 % succeeded")
    assert [line["name"] for line in sums["models"]] == ["gpt-4o", "gpt-4.1"]
    assert sums["models"][0] | {"cost": rupees(2 * ONE), "share": "100%"} == sums["models"][0]
    assert len(sums["bars"]) == 30 and sums["bars"][-1]["tip"].endswith(f"{rupees(2 * ONE)}, 3 requests")


async def test_each_request_has_a_line_the_newest_first(page: Tab, asha: Person) -> None:
    rows = told(page, STATE)["rows"]
    assert [row["id"] for row in rows] == asha.ids[::-1]
    assert [(row["model"], row["key"], row["tone"], row["cost"]) for row in rows] == [
        ("gpt-4o", "App", "good", rupees(ONE)),
        ("gpt-4.1", "App", "bad", "₹0.00"),
        ("gpt-4o", "App", "good", rupees(ONE)),
    ]


async def test_a_receipt_adds_up_to_the_charge_and_says_so(page: Tab, asha: Person) -> None:
    await page.call(named(f"{STATE}.open_receipt"), path="/usage", generation=asha.ids[0])
    shown = (await until(page, STATE, receipt_open=True))["receipt"]
    assert [(part["units"], part["price"], part["amount"]) for part in shown["parts"]] == [
        ("11", "₹240.00", exact_rupees(11 * 240_000_000)),
        ("5", "₹960.00", exact_rupees(5 * 960_000_000)),
    ]
    assert (shown["sum"], shown["charged"], shown["agrees"]) == (rupees(ONE), rupees(ONE), True)
    assert shown["price_version"].startswith("gpt-4o@") and shown["key"] == "App"
    assert [move["kind"] for move in shown["moves"]] == [
        "Held",
        "Charged",
        *["Set free"] * (len(shown["moves"]) - 2),
    ]


async def test_the_address_opens_a_receipt(page: Tab, asha: Person) -> None:
    shown = await load(page, f"/usage?receipt={asha.ids[1]}")
    await until(page, STATE, receipt_open=True)
    assert told(page, STATE)["receipt"]["why"] and shown["rows"]
    assert told(page, STATE)["receipt"]["cost"] == "₹0.00"


async def test_filters_in_the_address_leave_the_rest_out(page: Tab, asha: Person) -> None:
    assert len((await load(page, "/usage?model=gpt-4o"))["rows"]) == 2
    assert [row["model"] for row in (await load(page, "/usage?status=error"))["rows"]] == ["gpt-4.1"]
    assert len((await load(page, f"/usage?key={asha.key_id}"))["rows"]) == 3
    assert (await load(page, "/usage?key=00000000-0000-0000-0000-000000000000"))["rows"] == []
    assert (await load(page, "/usage?model=none&status=ok"))["is_filtered"] is True


async def test_choosing_a_filter_goes_to_its_address(page: Tab) -> None:
    page.updates.clear()
    await page.call(named(f"{STATE}.filter_model"), path="/usage?days=7&page=3", model="gpt-4o")
    await page.until("_redirect")
    assert page.sent_to() == ["/usage?days=7&model=gpt-4o"]


async def test_the_csv_holds_what_is_shown(page: Tab, asha: Person) -> None:
    await page.call(named(f"{STATE}.download"), path="/usage?status=ok")
    await page.until("_download")
    [event] = [
        event
        for update in page.updates
        for event in update.get("events") or []
        if event["name"] == "_download"
    ]
    sheet = base64.b64decode(event["payload"]["url"].partition("base64,")[2]).decode()
    lines = list(csv.DictReader(io.StringIO(sheet)))
    assert [line["request_id"] for line in lines] == [asha.ids[2], asha.ids[0]]
    assert event["payload"]["filename"].endswith(".csv")


async def test_another_organizations_receipt_does_not_exist(talking: Talking, asha: Person) -> None:
    async with tab(talking.site, talking.site.sign_up("other@example.com"), path="/usage") as other:
        await until(other, STATE, loaded=True, rows=[])
        await other.call(named(f"{STATE}.open_receipt"), path="/usage", generation=asha.ids[0])
        await other.until("Generation not found")
        assert told(other, STATE).get("receipt_open") is False and "gpt-4o" not in str(other.updates)


async def test_an_agent_sees_only_own_requests(talking: Talking) -> None:
    person = Person(talking)
    with sqlite3.connect(talking.site.data / "callmissed.db") as books:
        books.execute("UPDATE users SET role = 'agent' WHERE email = ?", (person.email,))
    await asyncio.sleep(1.1)
    async with tab(talking.site, person.cookie, path="/usage") as agent:
        await until(agent, STATE, loaded=True, rows=[])
        assert told(agent, "usage_state")["requests"] == "0"
        assert told(agent, STATE)["keys"] == [["", "Any key"]]


def test_an_address_is_read_as_it_was_written() -> None:
    for view in (View(), View(days="7", model="a/b c&d=é", status="error", page="12")):
        path, _, query = address(view, page=view.page).partition("?")
        asked = dict(pair.split("=") for pair in query.split("&")) if query else {}
        assert path == "/usage"
        assert view_of_address({name: unquote_plus(value) for name, value in asked.items()}) == view


@pytest.mark.parametrize(
    "junk",
    [
        {"days": "31"},
        {"days": "-1"},
        {"status": "x"},
        {"key": "x"},
        {"page": "0"},
        {"page": "٣"},
        {"page": "00031"},
        {"page": "9" * 99},
    ],
)
def test_an_address_that_makes_no_sense_is_the_whole_page(junk: dict[str, str]) -> None:
    assert view_of_address(junk) == View()


def test_money_is_exact_and_grouped_in_lakh_and_crore() -> None:
    assert [rupees(amount) for amount in (0, 1, 2_352, 500_000, 12_34_56_789_000_000)] == [
        "₹0.00",
        "₹0.000001",
        "₹0.002352",
        "₹0.50",
        "₹12,34,56,789.00",
    ]
    assert exact_rupees(1) == "₹0.000000000001"
    assert exact_rupees(7_440 * 10**6) == rupees(7_440)


def test_counts_sizes_and_times_are_short() -> None:
    assert [grouped(number) for number in (0, 999, 1_234_567)] == ["0", "999", "12,34,567"]
    assert [size(number) for number in (512, 8_192, 262_144, 1_048_576)] == ["512", "8K", "262K", "1M"]
    assert [duration(time) for time in (85, 1_240, 125_000)] == ["85 ms", "1.24 s", "2 min 5 s"]
    assert [ago(at, 10**12) for at in (None, 10**12 - 5_000, 10**12 - 300_000)] == [
        "Never",
        "Just now",
        "5 min ago",
    ]


def test_a_stopped_answer_is_no_failure() -> None:
    assert [outcome_of(*ended)[0] for ended in (("ok", 200), ("client_gone", 499), ("cut", 502))] == [
        "good",
        "plain",
        "bad",
    ]


def test_bars_and_shares_stand_for_their_part() -> None:
    days = tuple(
        (f"2026-11-{day:02}", Figures(requests=1, charge=charge))
        for day, charge in ((1, 0), (2, 1), (3, 100))
    )
    assert [bar["share"] for bar in bars(days, 100)] == ["0%", "2%", "100%"]
    assert bars(days, 100)[-1]["mark"] == "Today"
    assert model("a", Figures(requests=3, success=2, charge=25), 100)["share"] == "25%"
    assert model("a", Figures(requests=3, success=2), 0)["failed"] == "1 failed"
