"""`make dev`: pages come from Vite, which follows every saved file; everything else is as in production."""

import asyncio
import contextlib
from http import HTTPStatus

import httpx2
from reflex.utils.build import set_env_json
from reflex.utils.prerequisites import get_compiled_app
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api.settings import load_settings
from callmissed_app.server import create_app

# Of one hop only, or made anew by the server in front.
_DROPPED = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"content-encoding"}


def app() -> ASGIApp:
    """The whole server; its pages are compiled anew for Vite, which listens on the port after ours."""
    settings = load_settings()
    get_compiled_app()
    set_env_json()
    return create_app(settings, pages=vite_pages(settings.port + 1))


def vite_pages(port: int) -> ASGIApp:
    """An ASGI app that passes requests and Vite's own websocket on to Vite on this machine."""
    client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)

    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        target = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        if scope["type"] == "websocket":
            await _relay(f"ws://127.0.0.1:{port}{target}", scope, receive, send)
            return
        asked = {name.decode(): value.decode() for name, value in scope["headers"] if name == b"accept"}
        try:
            answer = await client.request(scope["method"], target, headers=asked)
        except httpx2.TransportError:
            await _send(send, HTTPStatus.BAD_GATEWAY, [], b"Vite is starting; reload in a moment.")
            return
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in _DROPPED]
        await _send(send, answer.status_code, headers, answer.content)

    return pages


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _relay(address: str, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    offered = [Subprotocol(name) for name in scope.get("subprotocols", [])]
    try:
        vite = await connect(address, subprotocols=offered or None, max_size=None)
    except OSError:
        await send({"type": "websocket.close"})
        return
    async with vite:
        await send({"type": "websocket.accept", "subprotocol": vite.subprotocol})

        async def to_browser() -> None:
            async for message in vite:
                kind = "text" if isinstance(message, str) else "bytes"
                await send({"type": "websocket.send", kind: message})

        async def to_vite() -> None:
            while (event := await receive())["type"] == "websocket.receive":
                await vite.send(event.get("text") or event.get("bytes") or "")

        tasks = [asyncio.create_task(to_browser()), asyncio.create_task(to_vite())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await task
