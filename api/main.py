"""Puts the API together: settings in, an ASGI application out. Everything it opens it closes again."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api import log
from api.catalog.catalog import load_catalog
from api.db.engine import open_database
from api.db.writer import open_writer
from api.edge import auth, chat, health, keys, models, openapi, render, usage
from api.edge.dispatch import Dispatcher
from api.gateway.rate_limit import open_limiter
from api.gateway.services import Services
from api.jobs.prices import remember_prices
from api.jobs.runner import run_jobs
from api.notify.mail import open_mailer
from api.providers.local_engine import LocalEngine
from api.providers.registry import Vendors
from api.providers.transport import open_transport
from api.settings import Settings, load_settings
from api.tenants.authenticate import KeyRing
from api.tenants.secrets import load_secret

_log = logging.getLogger(__name__)

HOT: dict[str, ASGIApp] = {chat.ENDPOINT: chat.chat_completions}
"""POST paths served in raw ASGI; each is in FastAPI's route table too."""


def application() -> ASGIApp:
    """The API alone, as a server process runs it: settings from the environment."""
    settings = load_settings()
    log.configure(settings.log_level)
    api = create_app(settings)
    return Dispatcher(api, HOT)


def create_app(settings: Settings) -> FastAPI:
    """The API's FastAPI app; its lifespan opens the services into `app.state.services`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings) as services:
            app.state.services = services
            # What start-up made lives as long as the process: the collector need not walk it again.
            gc.collect()
            gc.freeze()
            yield

    app = FastAPI(
        title="CallMissed",
        summary="One OpenAI-compatible gateway in front of many AI providers.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    render.install(app)
    for path, endpoint in HOT.items():
        app.router.routes.append(Route(path, _Raw(endpoint), methods=["POST"]))
    for room in (health, models, usage, auth, keys):
        app.include_router(room.router)
    openapi.describe_hot_paths(app)
    return app


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything a running server holds, with its periodic jobs at work; closed in reverse order.

    Raises what the room raises that cannot open: the server does not start half.
    """
    async with AsyncExitStack() as stack:
        secret = load_secret(settings)
        database = open_database(settings)
        stack.push_async_callback(database.close)
        writer = await open_writer(database)
        stack.push_async_callback(writer.close)
        limiter = open_limiter(settings)
        stack.push_async_callback(limiter.close)
        catalog = load_catalog(settings)
        await remember_prices(database, catalog)
        keys = KeyRing(database, secret)
        stack.push_async_callback(keys.close)
        mailer = open_mailer(settings)
        stack.push_async_callback(mailer.close)
        engine = LocalEngine(settings)
        stack.push_async_callback(engine.close)
        transport = open_transport(settings.transport)
        stack.push_async_callback(transport.aclose)
        services = Services(
            settings=settings,
            secret=secret,
            database=database,
            writer=writer,
            limiter=limiter,
            catalog=catalog,
            vendors=Vendors(settings, engine),
            engine=engine,
            transport=transport,
            keys=keys,
            mailer=mailer,
        )
        jobs = asyncio.create_task(run_jobs(services.database, services.writer))
        stack.push_async_callback(_stop, jobs)
        _log.info("started", extra={"origin": settings.origin, "models": len(catalog.models)})
        yield services


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class _Raw:
    """A raw ASGI callable as a route's endpoint (Starlette calls functions with a Request instead)."""

    def __init__(self, endpoint: ASGIApp) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)
