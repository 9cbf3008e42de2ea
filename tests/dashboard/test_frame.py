"""The frame around the pages: fits a phone, obeys the keyboard, keeps its colours, bears a lost server."""

import re

import pytest
from playwright.sync_api import Page, expect

from callmissed_app.layout import PLACES
from tests.dashboard.site import Site

pytestmark = pytest.mark.browser


@pytest.fixture
def signed_in(site: Site, page: Page) -> Page:
    """The window of a person who has just signed up."""
    name, _, value = site.sign_up(f"frame-{id(page)}@example.com").partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": site.url}])
    return page


@pytest.mark.parametrize(
    "path", ["/sign-in", "/sign-up", *(place.route for group in PLACES for place in group)]
)
def test_no_page_is_wider_than_a_phone(signed_in: Page, path: str) -> None:
    if path.startswith("/sign-"):
        signed_in.context.clear_cookies()
    signed_in.set_viewport_size({"width": 390, "height": 844})
    signed_in.goto(path)
    signed_in.wait_for_timeout(700)
    assert signed_in.evaluate("document.documentElement.scrollWidth") == 390


def test_every_place_of_the_rail_is_a_page(signed_in: Page) -> None:
    for place in (place for group in PLACES for place in group):
        answer = signed_in.goto(place.route)
        assert answer is not None and answer.status == 200
        expect(signed_in.locator('.rail [aria-current="page"]')).to_have_text(place.title)


def test_the_keyboard_goes_anywhere(signed_in: Page) -> None:
    signed_in.goto("/")
    expect(signed_in.locator(".pill")).to_have_text("₹1,000.00")
    signed_in.keyboard.press("Control+k")
    signed_in.keyboard.type("profile")
    signed_in.keyboard.press("Enter")
    signed_in.wait_for_url("**/settings")
    expect(signed_in.get_by_role("heading", name="Settings")).to_be_visible()


def test_the_drawer_of_a_phone_closes_behind_one(signed_in: Page) -> None:
    signed_in.set_viewport_size({"width": 390, "height": 844})
    signed_in.goto("/")
    expect(signed_in.locator(".rail")).to_be_hidden()
    signed_in.get_by_role("button", name="Menu").click()
    signed_in.locator(".rail").get_by_text("Settings").click()
    signed_in.wait_for_url("**/settings")
    expect(signed_in.locator(".rail")).to_be_hidden()


def test_the_colours_chosen_are_there_before_the_first_paint(signed_in: Page) -> None:
    signed_in.goto("/")
    expect(signed_in.locator(".pill")).to_have_text("₹1,000.00")
    signed_in.locator("#theme-toggle").click()
    expect(signed_in.locator("html")).to_have_class(re.compile("dark"))
    # Without the bundle only the first script can have done it.
    signed_in.route("**/assets/*.js", lambda route: route.abort())
    signed_in.context.clear_cookies()
    signed_in.goto("/sign-in", wait_until="commit")
    expect(signed_in.locator("html")).to_have_class(re.compile("dark"))


def test_an_unknown_address_says_so_and_leads_back(page: Page) -> None:
    answer = page.goto("/no/such/page")
    assert answer is not None and answer.status == 404
    expect(page.get_by_text("There is no page at this address")).to_be_visible()


def test_a_lost_server_is_said_calmly_and_noticed_when_it_is_back(signed_in: Page) -> None:
    signed_in.goto("/settings")
    expect(signed_in.locator(".pill")).to_have_text("₹1,000.00")
    signed_in.context.set_offline(True)
    signed_in.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    signed_in.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(signed_in.get_by_text("No connection to the server")).to_be_visible()
    signed_in.context.set_offline(False)
    expect(signed_in.get_by_text("No connection to the server")).to_be_hidden()
