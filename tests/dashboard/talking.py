"""The whole server with a vendor of ours behind it, and what a tab was told about a state."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

# Imported before any test runs: what a test imports is registered for that test alone.
import callmissed_app.callmissed_app  # noqa: F401
from tests.dashboard.site import Site, Tab, handlers, running_site
from tests.upstream import Upstream, scripted_upstream


@dataclass(frozen=True)
class Talking:
    """The server, and the vendor that answers for OpenAI's models (in a thread of its own)."""

    site: Site
    vendor: Upstream


@contextmanager
def talking_site(data: Path) -> Iterator[Talking]:
    """Both, until the end of the block."""
    with _vendor() as vendor, patch.dict(os.environ, _settings(vendor)), running_site(data) as site:
        yield Talking(site, vendor)


def named(ending: str) -> str:
    """The handler whose full name ends so: `conversation_state.send`."""
    [name] = [name for name in handlers() if name.endswith(f"____{ending}")]
    return name


def told(tab: Tab, state: str) -> dict[str, Any]:
    """The newest value of every var of a state that the tab was told."""
    values: dict[str, Any] = {}
    for update in tab.updates:
        for name, changed in (update.get("delta") or {}).items():
            if name.endswith(f"____{state}"):
                values |= {var.removesuffix("_rx_state_"): value for var, value in changed.items()}
    return values


async def until(tab: Tab, state: str, **values: Any) -> dict[str, Any]:
    """What the tab was told, once these vars have these values. Raises TimeoutError."""
    async with asyncio.timeout(8):
        while {name: told(tab, state).get(name) for name in values} != values:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return told(tab, state)


@contextmanager
def _vendor() -> Iterator[Upstream]:
    started, done = threading.Event(), asyncio.Event()
    found: list[tuple[Upstream, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with scripted_upstream() as upstream:
            found.append((upstream, asyncio.get_running_loop()))
            started.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait(5)
    upstream, loop = found[0]
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(5)


def _settings(vendor: Upstream) -> dict[str, str]:
    return {"OPENAI_BASE_URL": vendor.url, "OPENAI_API_KEY": "sk-vendor-secret"}
