"""One server for a module's tests, and a browser whose every complaint fails the test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.dashboard.site import Site, running_site

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole server on a fresh data folder."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    """A window of a new visitor: no error, no broken policy, no request to anybody else."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=site.url)
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A refused sign-in and a lost server are errors to the browser; pages are made for them.
        if message.type == "error" and not message.text.startswith(("Failed to load resource", "WebSocket")):
            complaints.append(message.text)

    def check(request: Request) -> None:
        if not request.url.startswith((site.url, "data:", "blob:")):
            complaints.append(f"asked {request.url}")

    context.on("console", note)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", check)
    yield context.new_page()
    context.close()
    assert complaints == []
