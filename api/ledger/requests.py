"""What happens to the money of one request. Every verb is one operation of the group-commit writer.

Each is queued before it first waits, so that cancelling the caller neither loses nor splits it, and is on
disk when it returns. Raises ApiError 503 when the database is gone (a resolution waits for it instead).
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from api.db.writer import Writer
from api.errors import ApiError
from api.types import Milliseconds, new_id, now

Usage = Mapping[str, Any]
"""Columns of a usage row, without those that the ledger knows: tenant, id, held, charge, provider loss."""

_MOST = 1 << 62
"""More than anybody has: sums of amounts stay below what the database counts to."""


async def hold(
    writer: Writer,
    *,
    tenant_id: UUID,
    request_id: UUID,
    amount: int,
    budgets: Iterable[UUID] = (),
    context: Usage,
    expires_at: Milliseconds,
) -> bool:
    """Hold `amount` micro-credits for a request: all of it in the wallet and in every budget, or nothing.

    True when it is held, also when the same request was held before. A hold whose caller leaves while it
    waits is void again. `context` is what the usage row needs should this process die.
    """
    named = list(dict.fromkeys(budget.hex for budget in budgets))
    operation = _operation("hold", tenant_id, request_id, request_id, amount)
    try:
        moved = await writer.submit(
            {**operation, "budgets": named, "context": context, "expires_at": expires_at}
        )
    except asyncio.CancelledError:
        with suppress(ApiError):
            left = {**context, "outcome": "client_gone", "status_code": 499, "usage_source": "none"}
            writer.post({**_operation("void", tenant_id, new_id(), request_id, 0), "usage": left})
        raise
    return moved is not None


async def extend(
    writer: Writer, *, tenant_id: UUID, request_id: UUID, amount: int, partial: bool = False
) -> int:
    """Hold `amount` micro-credits more for an open request; what was granted: all of it or 0.

    With `partial`, as much of it as the wallet and the request's budgets have room for.
    """
    operation = _operation("extend", tenant_id, new_id(), request_id, amount)
    return await writer.submit({**operation, "partial": partial}) or 0


async def settle(writer: Writer, *, tenant_id: UUID, request_id: UUID, cost: int, usage: Usage) -> int | None:
    """Charge an open request its `cost`, free the rest of its holds, and write its usage row.

    What the cost exceeds the holds by is held first, as far as the wallet and the budgets have room; what
    is left then is the row's provider loss. Micro-credits charged; None when there was nothing to resolve.
    """
    operation = _operation("settle", tenant_id, new_id(), request_id, cost)
    return await writer.submit({**operation, "overrun": new_id().hex, "usage": usage})


async def void(writer: Writer, *, tenant_id: UUID, request_id: UUID, usage: Usage) -> bool:
    """Free all that an open request holds and write its usage row; False when nothing was open."""
    operation = _operation("void", tenant_id, new_id(), request_id, 0)
    return await writer.submit({**operation, "usage": usage}) is not None


async def record(writer: Writer, *, tenant_id: UUID, request_id: UUID, usage: Usage) -> None:
    """Write the usage row of a request that held nothing, unless it has one."""
    await writer.submit({**_operation("record", tenant_id, request_id, request_id, 0), "usage": usage})


async def expire(writer: Writer, *, tenant_id: UUID, request_id: UUID, usage: Usage) -> bool:
    """`void` for a request whose process is gone; for the sweeper alone."""
    operation = _operation("expire", tenant_id, new_id(), request_id, 0)
    return await writer.submit({**operation, "usage": usage}) is not None


def _operation(kind: str, tenant_id: UUID, identity: UUID, request_id: UUID, amount: int) -> dict[str, Any]:
    if amount < 0:
        raise ValueError(f"a {kind} of {amount} micro-credits")
    return {
        "kind": kind,
        "tenant": tenant_id.hex,
        "id": identity.hex,
        "request": request_id.hex,
        "amount": min(amount, _MOST),
        "at": now(),
    }
