"""A small server of the routers of people and keys on a real loopback socket, and people who use it."""

import asyncio
import email
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from api.db.engine import Database
from api.edge import auth, keys, render
from api.gateway.rate_limit import Limiter, MemoryLimiter
from api.notify.mail import Mailer, open_mailer
from api.settings import Settings, load_settings
from api.tenants.authenticate import KeyRing
from api.tenants.registration import Registration, register, verify_registration
from api.tenants.secrets import load_secret
from api.tenants.sessions import Device, NewSession
from api.tenants.signed_in import SessionCaller, caller_of_access_token

PASSWORD = "correct horse battery"


@dataclass
class Site:
    """What the routers find under `app.state.services`, and a client that speaks to them."""

    settings: Settings
    secret: bytes
    database: Database
    mailer: Mailer
    limiter: Limiter
    keys: KeyRing
    seconds: list[float] = field(default_factory=lambda: [0.0])
    client: httpx2.AsyncClient = field(init=False)

    def wait(self, seconds: float) -> None:
        """Let time pass for the limits."""
        self.seconds[0] += seconds

    @property
    def origin(self) -> dict[str, str]:
        return {"origin": f"http://127.0.0.1:{self.settings.port}"}

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx2.Response:
        """POST from an address with fresh limits."""
        self.wait(3600)
        return await self.client.post(path, json=json, **more)

    async def sign_up(self, address: str = "asha@example.com", *, by_cookie: bool = False) -> httpx2.Response:
        """Register and verify over HTTP; the answer of the second step."""
        query = "?session=cookie" if by_cookie else ""
        headers = self.origin if by_cookie else {}
        asked = await self.post(f"/api/v1/auth/register{query}", register_body(address), headers=headers)
        assert asked.status_code == 200, asked.text
        made = await self.post(
            f"/api/v1/auth/register/verify{query}",
            {"email": address, "code": newest_code(self.settings)},
            headers=headers,
        )
        assert made.status_code == 200, made.text
        return made

    async def bearer(self, address: str = "asha@example.com") -> dict[str, str]:
        """Sign somebody up; the headers that speak for them."""
        return {"authorization": f"Bearer {(await self.sign_up(address)).json()['access_token']}"}


def register_body(address: str, **values: object) -> dict[str, object]:
    """What a person fills in."""
    given = {"full_name": "Asha Rao", "email": address, "password": PASSWORD, "accept_terms": True}
    return {**given, **values}


@asynccontextmanager
async def open_site(
    settings: Settings, database: Database, *, behind_proxies: int = 0
) -> AsyncIterator[Site]:
    """The server, its roots and its client, all closed in order."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = changed(settings, port=port, trusted_proxy_hops=behind_proxies)
    seconds = [0.0]
    secret = load_secret(settings)
    site = Site(
        settings=settings,
        secret=secret,
        database=database,
        mailer=open_mailer(settings),
        limiter=MemoryLimiter(lambda: int(seconds[0] * 1000)),
        keys=KeyRing(database, secret),
        seconds=seconds,
    )
    app = FastAPI(openapi_url=None)
    app.state.services = site
    render.install(app)
    app.include_router(auth.router)
    app.include_router(keys.router)
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", log_config=None, access_log=False, lifespan="off")
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 (uvicorn says it in no other way)
        await asyncio.sleep(0.005)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        site.client = client
        try:
            yield site
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await task
            await site.keys.close()
            await site.mailer.close()


def changed(settings: Settings, **values: object) -> Settings:
    """The settings with other values; what is worked out from them is worked out again."""
    given = {name: getattr(settings, name) for name in Settings.model_fields}
    return load_settings(**{**given, **values})


def mails(settings: Settings) -> list[str]:
    """The text of every mail in the mail folder, oldest first."""
    found = []
    for path in sorted((settings.data_dir / "mail").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns):
        message = email.message_from_bytes(path.read_bytes())
        body = message.get_payload(decode=True)
        assert isinstance(body, bytes)
        found.append(f"To: {message['To']}\nSubject: {message['Subject']}\n\n{body.decode()}")
    return found


def newest_code(settings: Settings) -> str:
    """The code in the newest mail."""
    found = re.search(r"\b[0-9]{6}\b", mails(settings)[-1])
    assert found is not None
    return found[0]


async def make_person(
    database: Database, settings: Settings, *, address: str = "asha@example.com"
) -> tuple[SessionCaller, NewSession]:
    """Somebody with an account, without HTTP: who they are, and what carries their sign-in."""
    secret, mailer = load_secret(settings), open_mailer(settings)
    wish = Registration(email=address, password=PASSWORD, full_name="Asha Rao")
    await register(database, secret, mailer, registration=wish)
    made = await verify_registration(
        database,
        secret,
        settings,
        email=address,
        code=newest_code(settings),
        device=Device(),
        by_cookie=False,
    )
    assert made.access_token is not None
    return await caller_of_access_token(database, secret, made.access_token), made
