"""The whole server in one ASGI callable: API paths to the API, events to Reflex, all else to the bundle."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from api import log
from api.edge.asgi import JSON, respond
from api.edge.cookies import check_socket_origin, scrub_cookie
from api.edge.dispatch import Dispatcher
from api.main import HOT
from api.main import create_app as create_api
from api.settings import Settings, load_settings
from callmissed_app.services import started, stopped

BUNDLE = Path(__file__).parents[1] / ".web" / "build" / "client"

EVENTS = frozenset({"_event", "ping", "_health"})
"""What Reflex's own backend serves to the pages."""

PROBES = frozenset({"/ping", "/_health"})
"""What it answers to anybody: that it is there."""

CLOSED = frozenset({"_upload", "_all_routes", "auth-codespace"})
"""What Reflex would serve too: an upload without limits, a list of routes. Not ours."""


def application() -> ASGIApp:
    """The API and the dashboard, as `make run` serves them: settings from the environment."""
    settings = load_settings()
    log.configure(settings.log_level)
    return create_app(settings)


def create_app(settings: Settings, *, pages: ASGIApp | None = None) -> ASGIApp:
    """One origin for everything. `pages` serves what is neither API nor event; None: the built bundle.

    Raises FileNotFoundError when there is no built bundle.
    """
    # Reflex reads these when its app is first imported: the bundle is already built, and served by us.
    os.environ.setdefault("REFLEX_ENV_MODE", "prod")
    os.environ["__REFLEX_SKIP_COMPILE"] = "yes"
    from callmissed_app.bundle import page_finder
    from callmissed_app.callmissed_app import app as face
    from callmissed_app.static import bundle_app

    api = create_api(settings)

    @asynccontextmanager
    async def run_api() -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):
            started(api.state.services)
            try:
                yield
            finally:
                stopped(api.state.services)

    face.register_lifespan_task(run_api)
    events = face()
    shown = pages or bundle_app(BUNDLE, page_finder(face.router))

    async def dashboard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await events(scope, receive, send)
            return
        room = scope["path"][1:].partition("/")[0]
        if room in EVENTS:
            await _events(scope, receive, send)
        elif room in CLOSED:
            await _nothing_here(scope, receive, send)
        else:
            await shown(scope, receive, send)

    async def _events(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBES or check_socket_origin(scope, settings):
            await events(scrub_cookie(scope, settings), receive, send)
        else:
            await _nothing_here(scope, receive, send)

    return Dispatcher(api, HOT, dashboard)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await respond(send, 403, b'{"detail": "Not allowed from here."}', [JSON])
