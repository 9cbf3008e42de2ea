"""A TCP relay in front of PostgreSQL that a test can cut and mend."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from sqlalchemy import make_url


class Relay:
    """Relays a free loopback port to the server at an address; `url` is the address through the relay."""

    def __init__(self, address: str) -> None:
        self._target = make_url(address)
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        through = self._target.set(host="127.0.0.1", port=port).difference_update_query(["host"])
        self.url = through.render_as_string(hide_password=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection and take no new one."""
        self._is_cut = True
        for writer in self._writers:
            writer.close()

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        folder = str(self._target.query.get("host", ""))
        if folder.startswith("/"):
            there = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{self._target.port or 5432}")
        else:
            there = await asyncio.open_connection(self._target.host, self._target.port or 5432)
        self._writers |= {writer, there[1]}
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        self._writers -= {writer, there[1]}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await source.read(65536):
            sink.write(block)
            await sink.drain()
    with suppress(OSError):
        sink.close()
