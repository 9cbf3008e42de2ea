"""Signing up, in and out in a real browser, with what people get wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.site import PASSWORD, Site, mailed_code

pytestmark = pytest.mark.browser

Fill = Callable[[str], str]


@pytest.fixture
def signed_up(site: Site, page: Page) -> str:
    """The address of a person who has an account; `page` is a stranger's."""
    address = f"person-{id(page)}@example.com"
    site.sign_up(address)
    return address


def fill_sign_up(page: Page, address: str) -> None:
    page.goto("/sign-up")
    page.get_by_label("Full name").fill("Meera Iyer")
    page.get_by_label("E-mail").fill(address)
    page.locator("#password").fill(PASSWORD)
    page.get_by_label("I accept").check()


def test_a_person_signs_up_with_the_code_from_the_mail(page: Page) -> None:
    fill_sign_up(page, "meera@example.com")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("meera@example.com")).to_be_visible()
    code = mailed_code(Path(page.locator("[data-mail-file] code").inner_text()))
    page.get_by_label("Code").fill(f"{(int(code) + 1) % 1_000_000:06d}")
    expect(page.get_by_text("Invalid or expired code")).to_be_visible()
    page.get_by_label("Code").fill(f"{code[:3]} {code[3:]}")
    page.wait_for_url("**/")
    expect(page.locator(".pill")).to_have_text("₹1,000.00")
    assert page.evaluate("document.cookie") == ""


def test_what_is_missing_is_said_at_its_field_and_nothing_is_sent(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/api/" in request.url else None)
    page.goto("/sign-up")
    page.get_by_label("E-mail").fill("nobody")
    page.locator("#password").fill("short")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#full_name-error")).to_have_text("Enter your name.")
    expect(page.locator("#email-error")).to_contain_text("name@company.in")
    expect(page.locator("#password-error")).to_have_text("Use at least 8 characters.")
    expect(page.locator("#accept_terms-error")).to_have_text("Accept the terms to continue.")
    expect(page.locator("#full_name")).to_be_focused()
    assert sent == []


def test_a_reload_keeps_the_step_and_another_code_can_be_asked_for(page: Page) -> None:
    fill_sign_up(page, "patient@example.com")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Code")).to_be_visible()
    first = page.locator("[data-mail-file] code").inner_text()
    page.reload()
    expect(page.get_by_text("patient@example.com")).to_be_visible()
    page.get_by_role("button", name="Send another code").click()
    expect(page.get_by_text("A new code is on its way.")).to_be_visible()
    second = page.locator("[data-mail-file] code").inner_text()
    assert second != first
    page.get_by_label("Code").fill(mailed_code(Path(second)))
    page.wait_for_url("**/")


def test_signing_in_leads_back_to_where_one_was_going(page: Page, signed_up: str) -> None:
    page.goto("/settings")
    page.wait_for_url("**/sign-in?next=/settings")
    page.get_by_label("E-mail").fill(signed_up)
    page.locator("#password").fill("something else")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("do not go together")).to_be_visible()
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/settings")
    expect(page.get_by_role("main").get_by_text(signed_up)).to_be_visible()


@pytest.mark.parametrize(
    "next", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_never_leads_to_another_site(page: Page, site: Site, signed_up: str, next: str) -> None:
    page.goto(f"/sign-in?next={next}")
    page.get_by_label("E-mail").fill(signed_up)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")


def test_signing_out_closes_every_tab(page: Page, site: Site, signed_up: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("E-mail").fill(signed_up)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".pill")).to_have_text("₹1,000.00")
    other = page.context.new_page()
    other.goto("/settings")
    expect(other.get_by_role("main").get_by_text(signed_up)).to_be_visible()
    page.get_by_role("button", name="You").click()
    page.locator("#me-menu").get_by_text("Sign out").click()
    page.wait_for_url("**/sign-in")
    other.wait_for_url("**/sign-in?next=/settings")
    assert signed_up not in other.content()


def test_who_is_signed_in_is_not_asked_again(page: Page, site: Site, signed_up: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("E-mail").fill(signed_up)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")
    page.goto("/sign-up")
    page.wait_for_url(f"{site.url}/")
