"""Batches on PostgreSQL: one call of a function, one commit, on one dedicated connection."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from api.db.batch import BatchRefused, DatabaseGone, encode
from api.db.engine import SYSTEM_ROLE, connect_postgresql

_SECONDS = 30.0
"""How long a commit may take before the connection is given up."""

_APPLY = "SELECT operation, moved FROM ledger_apply($1::jsonb)"

_TRANSIENT = ("08", "25006", "40", "53", "55P03", "57", "58")
"""SQLSTATEs after which the same batch may succeed: connection, standby, deadlock, resources, shutdown."""


class PostgresqlBatches:
    """Applies batches at `address`. Connects when needed, and again after a loss."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    def encode(self, operation: Mapping[str, Any]) -> str:
        """The operation as a JSON object."""
        return encode(operation)

    async def apply(self, batch: Sequence[str]) -> dict[str, int]:
        """One commit. Raises `DatabaseGone` when the connection is lost or the server not ready."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect_postgresql(self._address, SYSTEM_ROLE)
            rows = await self._connection.fetch(_APPLY, f"[{','.join(batch)}]", timeout=_SECONDS)
        except asyncpg.PostgresError as error:
            state = error.sqlstate or ""
            if not state.startswith(_TRANSIENT):
                raise BatchRefused(f"{type(error).__name__}: {error}") from error
            self._drop()
            raise DatabaseGone(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            # What a broken connection raises has no common class; without the server's word the fate of the
            # batch is unknown.
            self._drop()
            raise DatabaseGone(f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            self._drop()
            raise
        return {row[0].hex: row[1] for row in rows}

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close(timeout=2)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
