"""The whole server as an operator starts it, people who sign up, and their tabs as bare sockets."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import socketio
from reflex_base.registry import RegistrationContext

from api.db.migrate import migrate
from api.settings import load_settings

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
NAMESPACE = "/_event"
BOOT = "reflex___state____state.hydrate_and_load"

_neighbours = count(2)


@dataclass(frozen=True)
class Site:
    """A running server; `data` is its folder."""

    url: str
    data: Path

    def sign_up(self, address: str, name: str = "Asha Rao") -> str:
        """A new account; its session cookie as `name=value`."""
        # From an address of their own, because sign-ups are limited by address.
        door = httpx2.HTTPTransport(local_address=f"127.0.0.{next(_neighbours)}")
        mine = {"origin": self.url}
        with httpx2.Client(base_url=self.url, headers=mine, transport=door, timeout=60) as client:
            body = {"full_name": name, "email": address, "password": PASSWORD, "accept_terms": True}
            asked = client.post("/api/v1/auth/register?session=cookie", json=body).raise_for_status()
            code = mailed_code(Path(asked.json()["mail_file"]))
            made = client.post(
                "/api/v1/auth/register/verify?session=cookie", json={"email": address, "code": code}
            )
            return f"callmissed={made.raise_for_status().cookies['callmissed']}"

    def sign_out(self, cookie: str) -> None:
        headers = {"origin": self.url, "cookie": cookie}
        httpx2.post(f"{self.url}/api/v1/auth/logout", json={}, headers=headers).raise_for_status()


@dataclass
class Tab:
    """A browser's tab without the browser: what the server sent it is in `updates`."""

    client: socketio.AsyncClient
    updates: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, handler: str, *, path: str = "/", **payload: Any) -> None:
        """Call a handler as any stranger could who knows its name."""
        event = {"name": handler, "payload": payload, "router_data": {"pathname": path, "asPath": path}}
        await self.client.emit("event", event, namespace=NAMESPACE)

    async def until(self, seen: str) -> None:
        """Wait for an update that contains the text. Raises TimeoutError."""
        async with asyncio.timeout(5):
            while seen not in str(self.updates):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def sent_to(self) -> list[str]:
        """Where the server sent the tab."""
        events = [event for update in self.updates for event in update.get("events") or []]
        return [event["payload"]["path"] for event in events if event["name"] == "_redirect"]


@asynccontextmanager
async def tab(
    site: Site, cookie: str = "", *, token: str = "", path: str = "/", boots: bool = True
) -> AsyncIterator[Tab]:
    """A tab at `path`; with `boots` it asks for the page's values as every real one does."""
    client = socketio.AsyncClient(reconnection=False)
    opened = Tab(client)
    client.on("event", opened.updates.append, namespace=NAMESPACE)
    event = {"name": BOOT, "payload": {}, "router_data": {"pathname": path, "asPath": path}}
    await client.connect(
        f"{site.url}/?token={token or uuid4()}",
        headers={"origin": site.url, **({"cookie": cookie} if cookie else {})},
        auth={"event": event} if boots else None,
        transports=["websocket"],
        namespaces=[NAMESPACE],
        socketio_path="/_event",
    )
    try:
        yield opened
    finally:
        await client.disconnect()


@contextmanager
def running_site(data: Path, *, local: bool = False) -> Iterator[Site]:
    """The built dashboard and the API on one port of their own; `local`: with the model inside it."""
    built = subprocess.run(
        ["python3", "deploy/build.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    migrate(load_settings(data_dir=data, database_url=None))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "CALLMISSED_DATA_DIR": str(data),
        "LOCAL": "1" if local else "0",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    with (data / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "callmissed_app"], cwd=ROOT, env=env, stdout=log, stderr=log
        )
    try:
        wait_until_open(port, process, data / "server.log")
        yield Site(f"http://127.0.0.1:{port}", data)
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    pytest.fail(f"the server did not open port {port}:\n{log.read_text()}")


def mailed_code(file: Path) -> str:
    """The six digits in a mail."""
    found = re.search(r"code is (\d{6})", file.read_text())
    assert found
    return found[1]


def handlers() -> dict[str, Any]:
    """Every handler that a socket can name, and its function."""
    import callmissed_app.callmissed_app  # noqa: F401

    known = RegistrationContext.ensure_context().event_handlers
    assert known, "the registry is another context's: nothing would be tested"
    return {name: registered.handler.fn for name, registered in known.items()}
