"""Reports and logs find their rows through an index, whatever the organization next door has stored."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import event

from api import ledger
from api.db.engine import Database, open_database
from api.db.writer import open_writer
from api.settings import Settings
from api.types import Caller, new_id, now
from api.usage import export
from api.usage.export import csv_blocks
from api.usage.logs import Filters, logs
from api.usage.period import last_days
from api.usage.receipts import receipt
from api.usage.reports import overview, summary
from tests.factories import give, make_tenant, usage
from tests.usage.factories import NOW, add, agent, key, owner, usage_row

WEEK = last_days(7, NOW)
TENANT, USER, KEY = new_id(), new_id(), new_id()

Ask = Callable[[Database, Caller], Awaitable[Any]]


async def _export(database: Database, caller: Caller) -> None:
    async for _ in csv_blocks(database, caller, Filters(period=WEEK)):
        pass


ASKED: dict[str, tuple[Ask, Caller, str]] = {
    "summary": (lambda d, c: summary(d, c, days=30, now=NOW), owner(TENANT), "usage_time"),
    "summary of a key": (lambda d, c: summary(d, c, days=30, now=NOW), key(TENANT, KEY), "usage_key"),
    "overview": (lambda d, c: overview(d, c, now=NOW), owner(TENANT), "usage_time"),
    "overview of an agent": (lambda d, c: overview(d, c, now=NOW), agent(TENANT, USER), "usage_time"),
    "logs": (lambda d, c: logs(d, c, Filters(period=WEEK), limit=100), owner(TENANT), "usage_time"),
    "logs of a key": (lambda d, c: logs(d, c, Filters(period=WEEK), limit=9), key(TENANT, KEY), "usage_key"),
    "logs of a model": (
        lambda d, c: logs(d, c, Filters(period=WEEK, model="auto"), limit=100),
        owner(TENANT),
        "usage_time",
    ),
    "export": (_export, owner(TENANT), "usage_time"),
}


@pytest.mark.parametrize("name", ASKED)
async def test_rows_are_searched_by_tenant_and_time(sqlite_settings: Settings, name: str) -> None:
    ask, caller, index = ASKED[name]
    async with watched(sqlite_settings) as (database, ran):
        await ask(database, caller)
        for statement, parameters in list(ran):
            reads = [step for step in await plan(database, statement, parameters) if "usage_rows" in step]
            assert len(reads) == 1, "the period is read once"
            assert re.fullmatch(
                rf"SEARCH usage_rows USING INDEX {index} "
                r"\(tenant_id=\?( AND (api_key_id|model)=\?)? AND created_at>\? AND created_at<\?\)",
                reads[0],
            ), reads


async def test_a_later_page_of_an_export_begins_where_the_last_ended(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BATCH", 2)
    async with watched(sqlite_settings) as (database, ran):
        tenant_id = await make_tenant(database)
        await add(database, tenant_id, *(usage_row(created_at=NOW - 1_000 * n) for n in range(6)))
        ran.clear()
        await _export(database, owner(tenant_id))
        # Parameters: the period's start, the end that the index is searched by, ...
        ends = [parameters[1] for _, parameters in ran]
        assert ends == [WEEK.end, *(NOW - 1_000 * n + 1 for n in (1, 3, 5))]


@pytest.mark.parametrize("extended", [False, True])
async def test_a_receipt_reads_by_key_and_index(sqlite_settings: Settings, extended: bool) -> None:
    async with watched(sqlite_settings) as (database, ran):
        tenant_id = await make_tenant(database)
        await give(database, tenant_id, 1_000)
        writer = await open_writer(database)
        of = {"tenant_id": tenant_id, "request_id": new_id()}
        await ledger.hold(writer, amount=10, context=usage(), expires_at=now() + 60_000, **of)
        if extended:
            await ledger.extend(writer, amount=10, **of)
        await ledger.settle(writer, cost=10, usage=usage(10), **of)
        await writer.close()
        ran.clear()
        found = await receipt(database, owner(tenant_id), f"gen_{of['request_id'].hex}")
        assert (len(ran), len(found.movements)) == ((4, 3) if extended else (3, 2))
        for statement, parameters in list(ran):
            for step in await plan(database, statement, parameters):
                assert not step.startswith("SCAN"), (statement, step)


@asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[tuple[Database, list[tuple[str, Any]]]]:
    """A database, and what it was asked to read."""
    database = open_database(settings)
    ran: list[tuple[str, Any]] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "WITH")):
            ran.append((statement, parameters))

    yield database, ran
    await database.close()


async def plan(database: Database, statement: str, parameters: Any) -> list[str]:
    async with database.engine.connect() as connection:
        steps = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [step[3] for step in steps]
