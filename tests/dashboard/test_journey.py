"""A newcomer's first quarter of an hour: sign up, try a model, make a key, call it, see what it cost."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
from playwright.sync_api import Page, expect

from api.money import rupees_text
from api.settings import load_settings
from tests.dashboard.site import Site, mailed_code, running_site
from tests.weights import lend_weights

pytestmark = pytest.mark.browser

MODEL = "local/smollm2-135m"
ADDRESS = "asha@example.in"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole server with the real local model and no key of any vendor."""
    data = tmp_path_factory.mktemp("site")
    lend_weights(load_settings(data_dir=data))
    with running_site(data, local=True) as running:
        yield running


def test_from_the_first_visit_to_a_call_whose_cost_is_the_ledgers(site: Site, page: Page) -> None:
    _sign_up(site, page)
    page.get_by_role("link", name="Playground").first.click()
    _chat(page)
    key = _make_key(page)
    answer = _call_with_the_official_sdk(site, key)
    charge = _charge_of(site, answer.id)
    assert charge > 0
    _find_in_usage(page, answer.id, charge)


def _sign_up(site: Site, page: Page) -> None:
    page.goto("/")
    page.wait_for_url("**/sign-in**")
    page.get_by_role("link", name="Create an account").click()
    page.get_by_label("Full name").fill("Asha Rao")
    page.get_by_label("E-mail").fill(ADDRESS)
    page.locator("input[name=password]").fill("correct horse battery")
    page.get_by_label("I accept the terms").check()
    page.get_by_role("button", name="Continue").click()
    (mail,) = _wait_for_mail(page, site.data / "mail")
    expect(page.get_by_text(mail.name)).to_be_visible()
    page.locator("input[name=code]").fill(mailed_code(mail))
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_text("₹1,000.00").first).to_be_visible()


def _wait_for_mail(page: Page, folder: Path) -> list[Path]:
    for _ in range(100):
        if found := list(folder.glob("*.eml")):
            return found
        page.wait_for_timeout(50)
    pytest.fail("no mail came")


def _chat(page: Page) -> None:
    page.get_by_label("Model", exact=True).select_option(MODEL)
    page.get_by_label("Your message").fill("What is the capital of India?")
    page.get_by_label("Your message").press("Control+Enter")
    cost = page.locator(".exchange .cost").first
    expect(cost).to_contain_text("₹", timeout=60_000)
    assert len(page.locator(".exchange .answer").first.inner_text()) > 20


def _make_key(page: Page) -> str:
    page.get_by_role("link", name="API keys").first.click()
    page.get_by_role("button", name="Create a key").click()
    dialog = page.locator("#key-dialog")
    dialog.get_by_label("Name").fill("My first app")
    dialog.get_by_role("button", name="Create").click()
    secret = page.locator("#new-secret")
    expect(secret).to_contain_text("cm_live_")
    shown = secret.inner_text() or secret.input_value()
    key = next(word for word in shown.split() if word.startswith("cm_live_"))
    page.keyboard.press("Escape")
    return key


def _call_with_the_official_sdk(site: Site, key: str) -> openai.types.chat.ChatCompletion:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=key) as client:
        return client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Say hello."}], max_tokens=20
        )


def _charge_of(site: Site, answer_id: str) -> int:
    """Micro-credits by the usage row; the settled transfer has the same."""
    request = answer_id.removeprefix("gen_")
    with closing(sqlite3.connect(site.data / "callmissed.db")) as books:
        (charge,) = books.execute("SELECT charge FROM usage_rows WHERE id = ?", (request,)).fetchone()
        (moved,) = books.execute(
            "SELECT amount FROM transfers WHERE kind = 'settle' AND resolves = ?", (request,)
        ).fetchone()
    assert charge == moved
    return int(charge)


def _find_in_usage(page: Page, answer_id: str, charge: int) -> None:
    page.goto(f"/usage?receipt={answer_id}")
    receipt = page.locator("#receipt-drawer, .drawer").first
    expect(receipt).to_contain_text(answer_id)
    exact = rupees_text(charge, 6)
    expect(receipt).to_contain_text(exact.rstrip("0").rstrip("."))
