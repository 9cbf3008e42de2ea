"""The outer ASGI door: hot paths straight to their code, API paths to FastAPI, all else to the dashboard.

A hot path is also an entry in FastAPI's own route table; this only takes the short cut to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.edge.asgi import JSON, Headers, header, respond
from api.edge.render import body_for, internal_error
from api.errors import ApiError

_log = logging.getLogger(__name__)

API_ROOMS = frozenset(
    {
        "v1",
        "v2",
        "anthropic",
        "api",
        "ws",
        "livez",
        "readyz",
        "metrics",
        "openapi.json",
        ".well-known",
        "secret-scanning",
        "widget.js",
    }
)
"""First parts of paths that are the API's, whether they exist or not."""

_OPEN_TO_BROWSERS = frozenset({"v1", "anthropic"})
_PREFLIGHT: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, x-api-key, idempotency-key, anthropic-version, anthropic-beta, "
        b"x-session-id, x-trace-id, x-stainless-arch, x-stainless-lang, x-stainless-os, "
        b"x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, "
        b"x-stainless-runtime-version, x-stainless-timeout",
    ),
    (b"access-control-max-age", b"86400"),
]
_ANYONE = (b"access-control-allow-origin", b"*")
_EXPOSED = (
    b"access-control-expose-headers",
    b"x-request-id, x-generation-id, x-credits-charged, x-credits-balance, retry-after",
)


class Dispatcher:
    """Routes by the first part of the path. Without a dashboard, all that is not the API's is a JSON 404."""

    def __init__(self, api: FastAPI, hot: Mapping[str, ASGIApp], dashboard: ASGIApp | None = None) -> None:
        self._api, self._hot, self._dashboard = api, dict(hot), dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await (self._dashboard or self._api)(scope, receive, send)
            return
        path: str = scope["path"]
        room = path[1:].partition("/")[0]
        if room not in API_ROOMS and self._dashboard is not None:
            await self._dashboard(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        if room in _OPEN_TO_BROWSERS and header(scope, b"origin"):
            if scope["method"] == "OPTIONS":
                await respond(send, 204, b"", _PREFLIGHT)
                return
            send = _for_browsers(send)
        hot = self._hot.get(path) if scope["method"] == "POST" else None
        if hot is None:
            await self._api(scope, receive, send)
            return
        scope["app"] = self._api
        try:
            await hot(scope, receive, send)
        except Exception as error:
            await self._fail(path, error, send)

    async def _fail(self, path: str, error: Exception, send: Send) -> None:
        refusal = error if isinstance(error, ApiError) else internal_error()
        _log.error("unhandled", exc_info=error, extra={"path": path})
        await respond(send, refusal.status, body_for(path, refusal), [JSON])


def _for_browsers(send: Send) -> Send:
    """Let pages of any origin read the answer: keys travel in headers, never in cookies, on these paths."""

    async def send_open(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), _ANYONE, _EXPOSED]}
        await send(message)

    return send_open
