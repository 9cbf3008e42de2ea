"""Handlers are remote procedures: with another's ids and with nonsense they give nothing away."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from api.db.engine import open_database
from api.db.writer import open_writer
from api.settings import Settings
from api.tenants.secrets import load_secret
from tests.dashboard.site import BOOT, NAMESPACE, Site, Tab, handlers, tab
from tests.servers import free_port
from tests.upstream import Upstream
from tests.whole.canaries import Organization, fingerprint, organization
from tests.whole.process import child, environment

PATHS = ("/", "/playground", "/models", "/keys", "/usage", "/settings")

WRONG: list[Any] = [
    None,
    True,
    -1,
    10**40,
    0.5,
    "",
    "x" * 20_000,
    "\x00\u202e\ufffe",
    [],
    [[["deep"] * 50] * 50],
    {"id": {"id": []}},
    {"": None, "__class__": "x"},
]
"""No handler asks for these; every one gets all of them."""


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Every handler in Reflex's registry and its function."""
    # Not asked for in an async test: the registry is a context's, and theirs may be another.
    found = handlers()
    assert len(found) > 40
    return found


@pytest.fixture
async def site(
    bundle: None, sqlite_settings: Settings, upstream: Upstream, tmp_path: Path
) -> AsyncIterator[Site]:
    """The whole server as an operator starts it, with a vendor that answers."""
    vendors = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-secret"}
    env = environment(
        sqlite_settings.model_copy(update={"vendors": vendors}), free_port(), CALLMISSED_LOG_LEVEL="debug"
    )
    async with child("callmissed_app", log=tmp_path / "server.log", env=env) as server:
        yield Site(server.url, sqlite_settings.data_dir)
        assert server.process.returncode is None, "the server died"


@pytest.fixture
async def two(sqlite_settings: Settings, site: Site) -> AsyncIterator[tuple[Organization, Organization]]:
    """Acme, which must not be seen, and its rival."""
    database = open_database(sqlite_settings)
    writer = await open_writer(database)
    roots = cast(Any, SimpleNamespace(database=database, secret=load_secret(sqlite_settings)))
    yield (
        await organization(roots, writer, f"zq{uuid4().hex[:12]}"),
        await organization(roots, writer, f"zr{uuid4().hex[:12]}"),
    )
    await writer.close()
    await database.close()


async def cookie_of(owner: Organization) -> str:
    return f"callmissed={(await owner.signs_in(by_cookie=True)).cookie_token}"


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]


def payloads(names: list[str], acme: Organization) -> Iterator[dict[str, Any]]:
    """Acme's ids in every place and form, things of the wrong type, too little and too much."""
    own = {
        "id": str(acme.key_id),
        "key_id": str(acme.key_id),
        "tenant_id": str(acme.tenant_id),
        "user_id": str(acme.user_id),
        "generation": f"gen_{acme.request_id.hex}",
        "message": "hi",
        "overlap": "0",
        "name": "Taken over",
        "permission": ["llm"],
    }
    ids = (str(acme.key_id), acme.key_id.hex, f"gen_{acme.request_id.hex}", str(acme.tenant_id))
    for value in (*ids, own, *WRONG):
        yield dict.fromkeys(names, value)
    yield {}
    yield {**dict.fromkeys(names, str(acme.key_id)), "caller": own, "self": None, "key_id": str(acme.key_id)}


def takeovers(name: str, acme: Organization) -> Iterator[dict[str, Any]]:
    """The same for the setters of Reflex: Acme's key as the one that is chosen, Acme as the state's owner."""
    state = name.rpartition(".")[0]
    chosen = {"id": str(acme.key_id), "name": "x", "active": False}
    for variable, value in (("chosen", chosen), ("draft", {"id": str(acme.key_id)}), ("_owner", "x")):
        yield {"var_name": variable, "value": value}
        yield {"vars": {f"{state}.{variable}": value, variable: value}}


async def call_everything(opened: Tab, known: dict[str, Any], acme: Organization) -> None:
    """Every handler with every payload, and on every page with Acme's ids."""
    for path in PATHS:
        await boot(opened, path)
        for name, function in sorted(known.items()):
            names = parameters(function)
            if path == PATHS[0]:
                for payload in (*payloads(names, acme), *takeovers(name, acme)):
                    await emit(opened, name, payload, path)
            else:
                await emit(opened, name, dict.fromkeys(names, str(acme.key_id)), path)
        await boot(opened, path)


async def emit(opened: Tab, name: str, payload: Any, path: str) -> None:
    event = {"name": name, "payload": payload, "router_data": {"pathname": path, "asPath": path}}
    await opened.client.emit("event", event, namespace=NAMESPACE)


async def boot(opened: Tab, path: str) -> None:
    """Ask for the whole state and wait for it: what was sent before has been dealt with."""
    before = len(opened.updates)
    await emit(opened, BOOT, {}, path)
    async with asyncio.timeout(30):
        while "is_hydrated" not in str(opened.updates[before:]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def said(acme: Organization) -> tuple[str, ...]:
    """What the calls above say themselves."""
    ids = (acme.key_id, acme.request_id, acme.tenant_id, acme.user_id)
    return (*(str(each) for each in ids), *(each.hex for each in ids))


@pytest.mark.slow
@pytest.mark.parametrize("who", ["anonymous", "the rival's owner"])
async def test_every_handler_keeps_one_organization_from_all_others(
    site: Site, known: dict[str, Any], two: tuple[Organization, Organization], who: str
) -> None:
    acme, rival = two
    before = await fingerprint(acme.database, acme.tenant_id)
    cookie = await cookie_of(rival) if who != "anonymous" else ""
    async with tab(site, cookie, path="/") as opened:
        await call_everything(opened, known, acme)
        for nonsense in NONSENSE:
            await opened.client.emit("event", nonsense, namespace=NAMESPACE)
        await boot(opened, "/")
        assert acme.seen_in(str(opened.updates), sent=said(acme)) == []
        # Who belongs somewhere was shown the own things, and nobody was shown anything.
        assert (rival.word in str(opened.updates)) == bool(cookie)
    after = await fingerprint(acme.database, acme.tenant_id)
    assert {table for table in before if before[table] != after[table]} == set()
    assert (await asyncio.to_thread(httpx2.get, f"{site.url}/readyz")).status_code == 200
    async with tab(site, await cookie_of(acme), path="/keys") as own:
        await own.until(acme.word)


NONSENSE: list[Any] = [
    None,
    7,
    [],
    "not json",
    '{"name": 1}',
    {},
    {"name": None},
    {"name": "no.such_state.load", "payload": {}},
    {"name": BOOT, "payload": [], "router_data": []},
    {"name": BOOT, "payload": {"vars": 7, "hashes": 7}, "router_data": {"pathname": 7, "headers": 7}},
]


async def test_what_an_event_says_of_its_own_headers_is_not_believed(
    site: Site, two: tuple[Organization, Organization]
) -> None:
    acme, rival = two
    cookie = await cookie_of(acme)
    forged = {"headers": {"cookie": cookie}, "ip": "10.0.0.1", "token": str(uuid4()), "pathname": "/keys"}
    for own in ("", await cookie_of(rival)):
        async with tab(site, own, path="/keys") as opened:
            event = {"name": BOOT, "payload": {}, "router_data": forged, "token": str(uuid4())}
            await opened.client.emit("event", event, namespace=NAMESPACE)
            await boot(opened, "/keys")
            assert acme.seen_in(str(opened.updates)) == []


ORIGINS: dict[str, str | None] = {
    "missing": None,
    "null": "null",
    "foreign": "https://evil.example",
    "one with ours before it": "{url}.evil.example",
    "one with ours after it": "http://evil.example#{url}",
    "another port": "http://127.0.0.1:1",
    "another scheme": "https{rest}",
    "our own": "{url}",
}


async def test_the_socket_opens_for_our_own_pages_only(
    site: Site, two: tuple[Organization, Organization]
) -> None:
    cookie = await cookie_of(two[0])
    opened = {}
    for which, form in ORIGINS.items():
        origin = form.format(url=site.url, rest=site.url.removeprefix("http")) if form else None
        opened[which] = await opens(site, cookie, origin)
    assert opened == {**dict.fromkeys(ORIGINS, (False, 403)), "our own": (True, 400)}


async def opens(site: Site, cookie: str, origin: str | None) -> tuple[bool, int]:
    """Whether a socket opens, and the status of the transport without one."""
    headers = {"cookie": cookie, **({"origin": origin} if origin is not None else {})}
    query = f"/_event/?EIO=4&token={uuid4()}&transport="
    async with httpx2.AsyncClient(trust_env=False) as client:
        polled = await client.get(f"{site.url}{query}polling", headers=headers)
        assert "access-control-allow-origin" not in polled.headers or origin == site.url
    address = f"ws{site.url.removeprefix('http')}{query}websocket"
    try:
        async with connect(address, additional_headers=headers, proxy=None) as socket:
            return str(await socket.recv()).startswith("0"), polled.status_code
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
        return False, polled.status_code


async def test_the_session_cookie_is_in_no_frame_and_no_log(
    site: Site, two: tuple[Organization, Organization], tmp_path: Path
) -> None:
    cookie = await cookie_of(two[0])
    headers = {"cookie": f"theme=dark; {cookie}; other=1", "origin": site.url}
    address = f"ws{site.url.removeprefix('http')}/_event/?EIO=4&transport=websocket&token={uuid4()}"
    frames: list[str] = []
    async with connect(address, additional_headers=headers, proxy=None, max_size=None) as socket:
        await socket.send(f"40{NAMESPACE},")
        for path in PATHS:
            event = {"name": BOOT, "payload": {}, "router_data": {"pathname": path, "asPath": path}}
            await socket.send(f"42{NAMESPACE}," + json.dumps(["event", event]))
        for nonsense in NONSENSE:
            await socket.send(f"42{NAMESPACE}," + json.dumps(["event", nonsense]))
        async with asyncio.timeout(20):
            while not frames or two[0].word not in frames[-1]:
                frames.append(str(await socket.recv()))
    secret = cookie.partition("=")[2]
    assert [frame for frame in frames if secret in frame] == []
    log = (tmp_path / "server.log").read_text()
    assert secret not in log and two[0].word not in log
