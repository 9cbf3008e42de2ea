"""The few lines of raw ASGI that the hot paths share: a body in, a body or events out."""

from collections.abc import Iterable
from typing import Any

from starlette.types import Receive, Scope, Send

from api.errors import ApiError, invalid_request

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
INDEX = "callmissed.headers"
"""Where a scope keeps its headers by name once one was asked for."""
EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Gone(Exception):
    """The client left before its request was read."""


def header(scope: Scope, name: bytes) -> str:
    """The first header of this lower-case name as text; empty when there is none."""
    found: dict[bytes, bytes] | None = scope.get(INDEX)
    if found is None:
        # Backwards, so that of two headers with one name the first stays.
        found = scope[INDEX] = dict(reversed(scope["headers"]))
    value = found.get(name)
    return value.decode("latin-1") if value else ""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises ApiError 413 above `limit` bytes (without reading on), Gone when the client leaves.
    """
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        first: bytes = message.get("body", b"")
        if len(first) > limit:
            raise _too_large(limit)
        return first
    pieces, size = [], 0
    while True:
        if message["type"] != "http.request":
            raise Gone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(pieces)
        message = await receive()


async def respond(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """One whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


def error_headers(error: ApiError) -> Headers:
    """An error's own headers as bytes."""
    return [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]


def start_of_events(headers: Headers) -> dict[str, Any]:
    """The message that opens a stream of events."""
    return {"type": "http.response.start", "status": 200, "headers": [*EVENTS, *headers]}


def _too_large(limit: int) -> ApiError:
    return invalid_request(
        f"The body is larger than {limit // 1_048_576} MB, the most this route takes.", status=413
    )
