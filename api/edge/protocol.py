"""How uvicorn serves us; and its HTTP protocol, with an answer's head and body in one packet instead of two.

Each write is a system call with the loop standing still; on loopback the kernel also does the receiver's work
in it, so that two writes an answer are a good part of the loop's time.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SERVING: dict[str, Any] = {
    "http": "api.edge.protocol:CorkedProtocol",
    "loop": "uvloop",
    "ws": "websockets-sansio",
    "access_log": False,
    "server_header": False,
    # CALLMISSED_TRUSTED_PROXY_HOPS decides who is believed.
    "proxy_headers": False,
    "log_config": None,
    "timeout_keep_alive": 75,
    "timeout_graceful_shutdown": 60,
}
"""Options of every server process."""


class Corked:
    """A transport that writes once a turn of the loop what was written in that turn."""

    __slots__ = ("_call_soon", "_pending", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._call_soon = transport, loop.call_soon
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send `data` before the loop waits again."""
        if not self._pending:
            self._call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        """Close once all is sent."""
        self._flush()
        self._transport.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection over, as for a websocket."""
        self._flush()
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CorkedProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, on a corked transport."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
