"""The real server on a real socket, in the test's own process; and an organization with money and a key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import httpx2
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from api import ledger
from api.db.session import tenant_session
from api.db.system import system_session
from api.edge.dispatch import Dispatcher
from api.edge.protocol import SERVING
from api.gateway.services import Services
from api.ledger import Balance
from api.main import HOT, create_app
from api.money import micro
from api.settings import Settings
from api.tables import ApiKey, OpenHold, UsageRow
from api.tenants.key_text import hint, new_key_text
from api.tenants.keys import secret_row
from api.types import new_id, now
from callmissed_app.__main__ import listen
from tests.factories import make_tenant


@dataclass
class Running:
    """A server that answers at `url`."""

    url: str
    app: FastAPI
    client: httpx2.AsyncClient

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services


@dataclass
class Customer:
    """An organization with one key."""

    tenant_id: UUID
    key_id: UUID
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """The API of `settings` (its database migrated already), stopped in order afterwards."""
    app = create_app(settings)
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(Dispatcher(app, HOT), **SERVING))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.005)
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
    async with httpx2.AsyncClient(base_url=url, timeout=30, limits=limits, trust_env=False) as client:
        try:
            yield Running(url, app, client)
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await task


async def customer(
    services: Services, *, credits: str = "1000", plan: str = "self_hosted", **allows: object
) -> Customer:
    """A new organization with `credits` of promotional money and one key that `allows` what it says."""
    tenant_id = await make_tenant(services.database, plan=plan)
    text, key_id = new_key_text(live=allows.get("kind", "live") == "live"), new_id()
    budget = allows.pop("budget_limit", None)
    key = ApiKey(
        tenant_id=tenant_id,
        id=key_id,
        name="Test",
        hint=hint(text),
        created_at=now(),
        updated_at=now(),
        budget_limit=budget,
        **{"kind": "live", **allows},
    )
    async with system_session(services.database, "registration", writes=True) as session:
        session.add(key)
        await session.flush()
        session.add(secret_row(services.secret, key=key, text=text, moment=now(), expires_at=None))
        if micro(credits):
            await ledger.credit(
                session,
                tenant_id=tenant_id,
                amount=micro(credits),
                part="promo",
                kind="signup_bonus",
                source="promotions",
                reference=f"signup:{tenant_id.hex}",
            )
    if isinstance(budget, int):
        async with tenant_session(services.database, tenant_id, writes=True) as session:
            await ledger.set_budget(session, budget_id=key_id, subject="key", ceiling=budget)
    return Customer(tenant_id, key_id, text)


async def balance(services: Services, tenant_id: UUID) -> Balance:
    async with tenant_session(services.database, tenant_id) as session:
        return await ledger.balance(session)


async def usage_rows(services: Services, tenant_id: UUID) -> list[UsageRow]:
    async with tenant_session(services.database, tenant_id) as session:
        rows = await session.execute(select(UsageRow).order_by(UsageRow.id))
        return list(rows.scalars())


async def settled(services: Services, tenant_id: UUID, rows: int = 1) -> list[UsageRow]:
    """The usage rows once there are so many: who left is settled a moment later. Raises TimeoutError."""
    async with asyncio.timeout(3):
        while len(found := await usage_rows(services, tenant_id)) < rows:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def open_holds(services: Services, tenant_id: UUID) -> int:
    async with tenant_session(services.database, tenant_id) as session:
        return len((await session.execute(select(OpenHold.id))).all())
