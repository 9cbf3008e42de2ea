"""The group-commit writer: what it answers is committed; what reached it is neither lost nor done twice."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from api import ledger
from api.db import engine
from api.db import writer as writer_module
from api.db.engine import Database
from api.db.session import tenant_session
from api.db.system import system_session
from api.db.writer import Batches, OperationFailed, Writer, open_writer
from api.errors import ApiError
from api.tables import Transfer
from api.types import new_id, now
from tests.conftest import MakeTenant
from tests.db.relay import Relay
from tests.factories import usage


def _hold(tenant_id: UUID, request_id: UUID, amount: int = 1) -> dict[str, Any]:
    return {
        "kind": "hold",
        "tenant": tenant_id.hex,
        "id": request_id.hex,
        "request": request_id.hex,
        "amount": amount,
        "at": now(),
        "budgets": [],
        "context": usage(),
        "expires_at": now() + 600_000,
    }


async def _held(database: Database, tenant_id: UUID) -> int:
    async with tenant_session(database, tenant_id) as session:
        return (await ledger.balance(session)).held


class _Counted:
    """The real way to apply batches, with a note of each batch's size."""

    def __init__(self, batches: Batches) -> None:
        self.real, self.sizes = batches, list[int]()
        self.encode, self.close = batches.encode, batches.close

    async def apply(self, batch: Sequence[Any]) -> dict[str, int]:
        self.sizes.append(len(batch))
        return await self.real.apply(batch)


async def test_what_came_meanwhile_is_committed_together(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    counted = _Counted(writer._batches)
    writer._batches = counted
    tenant_id = await tenant(credits=1000)
    moved = await asyncio.gather(*(writer.submit(_hold(tenant_id, new_id())) for _ in range(300)))
    assert moved == [1] * 300
    assert counted.sizes == [256, 44]
    assert await _held(database, tenant_id) == 300


async def test_operations_of_one_request_go_one_after_the_other(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    counted = _Counted(writer._batches)
    writer._batches = counted
    tenant_id, request_id = await tenant(credits=100), new_id()
    hold = _hold(tenant_id, request_id, 10)
    more = {**hold, "kind": "extend", "id": new_id().hex, "amount": 5}
    assert await asyncio.gather(writer.submit(hold), writer.submit(more)) == [10, 5]
    assert counted.sizes == [1, 1]


async def test_a_bad_operation_fails_alone(database: Database, writer: Writer, tenant: MakeTenant) -> None:
    tenant_id = await tenant(credits=100)
    bad = _hold(tenant_id, new_id(), -5)
    outcomes = await asyncio.gather(
        *(writer.submit(_hold(tenant_id, new_id())) for _ in range(3)),
        writer.submit(bad),
        *(writer.submit(_hold(tenant_id, new_id())) for _ in range(3)),
        return_exceptions=True,
    )
    assert isinstance(outcomes.pop(3), OperationFailed)
    assert outcomes == [1] * 6
    assert await _held(database, tenant_id) == 6


async def test_an_operation_sent_again_is_done_once_and_answers_the_same(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id, request_id = await tenant(credits=100), new_id()
    common = {"tenant": tenant_id.hex, "request": request_id.hex, "at": now()}
    more = {**common, "kind": "extend", "id": new_id().hex, "amount": 20, "partial": False}
    settle = {**common, "kind": "settle", "id": new_id().hex, "amount": 25, "overrun": new_id().hex}
    settle["usage"] = usage(25)
    for operation, moved in ((_hold(tenant_id, request_id, 10), 10), (more, 20), (settle, 25)):
        assert [await writer.submit(operation) for _ in range(3)] == [moved] * 3
    assert await writer.submit({**settle, "id": new_id().hex}) is None
    async with tenant_session(database, tenant_id) as session:
        assert await ledger.balance(session) == ledger.Balance(paid=75)
        kinds = list(await session.scalars(select(Transfer.kind).order_by(Transfer.kind)))
    assert kinds == ["grant", "hold", "hold", "settle"]


async def test_a_caller_that_leaves_does_not_take_its_operation_along(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id = await tenant(credits=100)
    tasks = [asyncio.create_task(writer.submit(_hold(tenant_id, new_id()))) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[1::2] == [1] * 25
    await writer.submit(_hold(tenant_id, new_id()))
    assert await _held(database, tenant_id) == 51


async def test_closing_commits_what_is_queued_and_refuses_what_comes_after(
    database: Database, tenant: MakeTenant
) -> None:
    tenant_id, closing = await tenant(credits=1000), await open_writer(database)
    waiting = [asyncio.create_task(closing.submit(_hold(tenant_id, new_id()))) for _ in range(400)]
    await asyncio.sleep(0)
    await closing.close()
    assert await asyncio.gather(*waiting) == [1] * 400
    with pytest.raises(ApiError) as refused:
        await closing.submit(_hold(tenant_id, new_id()))
    assert (refused.value.status, refused.value.code) == (503, "service_unavailable")
    assert await _held(database, tenant_id) == 400


async def test_a_full_queue_refuses_holds_but_never_a_resolution(
    database: Database, writer: Writer, tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id, open_request = await tenant(credits=100), new_id()
    await writer.submit(_hold(tenant_id, open_request, 10))
    monkeypatch.setattr(writer_module, "MAX_PENDING", 5)
    async with writer._turn:
        first = asyncio.create_task(writer.submit(_hold(tenant_id, new_id())))
        await asyncio.sleep(0.01)
        queued = [asyncio.create_task(writer.submit(_hold(tenant_id, new_id()))) for _ in range(5)]
        await asyncio.sleep(0)
        assert writer.pending == 6
        with pytest.raises(ApiError) as refused:
            await writer.submit(_hold(tenant_id, new_id()))
        settling = asyncio.create_task(
            ledger.settle(writer, tenant_id=tenant_id, request_id=open_request, cost=3, usage=usage(3))
        )
        await asyncio.sleep(0)
    assert refused.value.status == 503
    assert await asyncio.gather(first, *queued, settling) == [1] * 6 + [3]
    assert writer.pending == 0


async def test_a_locked_file_is_waited_for(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.01)
    locking, waiting = engine.connect_sqlite(sqlite_database.url), await open_writer(sqlite_database)
    locking.execute("BEGIN IMMEDIATE")
    held = asyncio.create_task(waiting.submit(_hold(new_id(), new_id())))
    await asyncio.sleep(0.3)
    assert not held.done()
    locking.execute("COMMIT")
    assert await held is None
    locking.close()
    await waiting.close()


async def test_a_lost_connection_loses_nothing_and_doubles_nothing(
    postgresql_database: Database, tenant_of: Any
) -> None:
    tenant_id, lost = await tenant_of(postgresql_database, 100_000), 0
    surviving = await open_writer(postgresql_database)

    async def caller() -> int:
        total = 0
        for _ in range(40):
            request_id = new_id()
            total += await surviving.submit(_hold(tenant_id, request_id, 10)) or 0
            charged = await ledger.settle(
                surviving, tenant_id=tenant_id, request_id=request_id, cost=4, usage=usage(4)
            )
            assert charged == 4
        return total

    callers = [asyncio.create_task(caller()) for _ in range(20)]
    while not all(task.done() for task in callers):
        await asyncio.sleep(0.05)
        lost += await _end_writers_connection(postgresql_database)
    assert sum(await asyncio.gather(*callers)) == 20 * 40 * 10
    assert lost > 0
    await surviving.close()
    async with tenant_session(postgresql_database, tenant_id) as session:
        assert await ledger.balance(session) == ledger.Balance(paid=100_000 - 20 * 40 * 4)


async def _end_writers_connection(database: Database) -> int:
    async with system_session(database, "operator") as session:
        await session.execute(text("RESET ROLE"))
        ended = await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND query LIKE '%ledger_apply%'"
            )
        )
        return len(ended.all())


async def test_a_database_that_is_gone_refuses_holds_and_keeps_resolutions(
    postgresql_database: Database, tenant_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PATIENCE", 0.2)
    tenant_id, open_request = await tenant_of(postgresql_database, 100), new_id()
    async with Relay(postgresql_database.url) as relay:
        cut = await open_writer(Database(postgresql_database.engine, is_sqlite=False, url=relay.url))
        assert await cut.submit(_hold(tenant_id, open_request, 10)) == 10
        relay.cut()
        settling = asyncio.create_task(
            ledger.settle(cut, tenant_id=tenant_id, request_id=open_request, cost=3, usage=usage(3))
        )
        with pytest.raises(ApiError) as refused:
            await cut.submit(_hold(tenant_id, new_id()))
        assert refused.value.status == 503
        assert not cut.healthy
        with pytest.raises(ApiError):
            await cut.submit(_hold(tenant_id, new_id()))
        assert not settling.done()
        relay.mend()
        assert await settling == 3
        assert cut.healthy
        assert await cut.submit(_hold(tenant_id, new_id())) == 1
        await cut.close()
