"""A server that is told to stop ends what it has begun; and what it takes to start one."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from api import ledger
from api.db.engine import Database, open_database
from api.settings import Settings
from api.tenants.secrets import load_secret
from tests.dashboard.site import Site, tab
from tests.running import Customer, customer, usage_rows
from tests.servers import free_port
from tests.upstream import Upstream, stream
from tests.whole.load import CHAT, IN, OUT, held_requests
from tests.whole.process import Child, child, environment, processor_seconds, resident_megabytes

STREAMS = 20
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 500, "stream": True}


@dataclass
class Heard:
    """What one caller got of a stream."""

    words: int = 0
    done: bool = False
    charge: int = 0
    error: str = ""


@pytest.fixture
async def books(database_settings: Settings) -> AsyncIterator[Database]:
    opened = open_database(database_settings)
    yield opened
    await opened.close()


@pytest.fixture
async def acme(database_settings: Settings, books: Database) -> Customer:
    roots = SimpleNamespace(database=books, secret=load_secret(database_settings))
    return await customer(cast(Any, roots))


@pytest.fixture
def env(database_settings: Settings, upstream: Upstream) -> dict[str, str]:
    vendors = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-secret"}
    return environment(database_settings.model_copy(update={"vendors": vendors}), free_port())


async def listen(url: str, key: Customer, heard: Heard) -> None:
    """One streamed call, to whatever end."""
    async with (
        httpx2.AsyncClient(base_url=url, headers=key.headers, timeout=60, trust_env=False) as client,
        client.stream("POST", CHAT, json=ASK | {"stream_options": {"include_usage": True}}) as answer,
    ):
        try:
            async for line in answer.aiter_lines():
                _take(heard, line.removeprefix("data: "))
        except httpx2.TransportError as error:
            heard.error = type(error).__name__


def _take(heard: Heard, data: str) -> None:
    if data == "[DONE]":
        heard.done = True
    elif data:
        event = json.loads(data)
        heard.error = (event.get("error") or {}).get("code", heard.error)
        heard.words += sum("content" in each["delta"] for each in event.get("choices", []))
        if event.get("usage"):
            heard.charge = event["usage"]["prompt_tokens"] * IN + event["usage"]["completion_tokens"] * OUT


async def stop_in_the_middle(server: Child, acme: Customer) -> tuple[list[Heard], int]:
    """Twenty streams run when the server is told to stop; what each heard, and how the server ended."""
    heard = [Heard() for _ in range(STREAMS)]
    callers = [asyncio.create_task(listen(server.url, acme, each)) for each in heard]
    async with asyncio.timeout(30):
        while any(each.words < 2 for each in heard):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not any(each.done for each in heard)
    ending = asyncio.create_task(server.end(signal.SIGTERM))
    await asyncio.sleep(0.2)
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as late:
        with pytest.raises(httpx2.ConnectError):
            await late.get("/livez")
    await asyncio.gather(*callers)
    return heard, await ending


async def test_streams_that_run_when_the_server_is_told_to_stop_come_to_their_end(
    env: dict[str, str], books: Database, acme: Customer, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script = lambda _: stream(30, gap=0.1)
    async with child("api", "serve", log=tmp_path / "server.log", env=env) as server:
        heard, code = await stop_in_the_middle(server, acme)
    assert [(each.done, each.words, each.error) for each in heard] == [(True, 31, "")] * STREAMS
    assert code == 0
    assert await held_requests(books, acme.tenant_id) == 0
    rows = await usage_rows(cast(Any, SimpleNamespace(database=books)), acme.tenant_id)
    assert sorted(row.charge for row in rows) == sorted(each.charge for each in heard)
    assert {row.outcome for row in rows} == {"ok"}
    assert (await ledger.verify(books)).drift == []


async def test_streams_that_take_too_long_are_cut_settled_and_told_so(
    env: dict[str, str], books: Database, acme: Customer, upstream: Upstream, tmp_path: Path
) -> None:
    lengths = iter([10, 400] * STREAMS)
    upstream.script = lambda _: stream(next(lengths), gap=0.1)
    arguments = ("--factory", "api.main:application", "--port", env["PORT"], "--no-access-log")
    loop = ("--loop", "uvloop", "--http", "api.edge.protocol:CorkedProtocol")
    grace = ("--timeout-graceful-shutdown", "3")
    async with child("uvicorn", *arguments, *loop, *grace, log=tmp_path / "server.log", env=env) as server:
        heard, code = await stop_in_the_middle(server, acme)
    assert code == -signal.SIGTERM  # uvicorn's own command ends by the signal it was sent
    assert sum(each.done for each in heard) == STREAMS // 2
    assert [each.error for each in heard if not each.done] == ["service_unavailable"] * (STREAMS // 2)
    assert await held_requests(books, acme.tenant_id) == 0
    rows = await usage_rows(cast(Any, SimpleNamespace(database=books)), acme.tenant_id)
    assert len(rows) == STREAMS
    assert sorted(row.charge for row in rows if row.outcome == "ok") == sorted(
        each.charge for each in heard if each.done
    )
    cut = [row for row in rows if row.outcome == "cut"]
    assert len(cut) == STREAMS // 2 and all(row.charge > 0 and row.status_code == 503 for row in cut)
    assert (await ledger.verify(books)).drift == []


async def test_the_api_starts_in_seconds(sqlite_settings: Settings, tmp_path: Path) -> None:
    env = environment(sqlite_settings, free_port())
    async with child("api", "serve", log=tmp_path / "server.log", env=env) as server:
        # Processor time: what else the machine does is not in it.
        assert processor_seconds(server.process.pid) < 15


@pytest.mark.usefixtures("bundle")
async def test_the_whole_server_fits_in_a_small_machine(sqlite_settings: Settings, tmp_path: Path) -> None:
    env = environment(sqlite_settings, free_port())
    async with child("callmissed_app", log=tmp_path / "server.log", env=env) as server:
        site = Site(server.url, sqlite_settings.data_dir)
        for path in ("/", "/keys", "/usage", "/playground"):
            async with tab(site, site.sign_up(f"{path[1:]}a@example.com"), path=path) as opened:
                await opened.until("is_hydrated")
        assert processor_seconds(server.process.pid) < 30
        assert resident_megabytes(server.process.pid) < 250
