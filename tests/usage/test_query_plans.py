"""Reports and logs find their rows through an index, whatever the organization next door has stored."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event

from api.db.engine import Database, open_database
from api.settings import Settings
from api.types import Caller, new_id
from api.usage.export import csv_blocks
from api.usage.logs import Filters, logs
from api.usage.period import last_days
from api.usage.reports import overview, summary
from tests.factories import make_tenant
from tests.usage.factories import NOW, agent, key, owner

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
        "usage_model",
    ),
    "export": (_export, owner(TENANT), "usage_time"),
}


@pytest.mark.parametrize("name", ASKED)
async def test_rows_are_searched_by_tenant_and_time(sqlite_settings: Settings, name: str) -> None:
    ask, caller, index = ASKED[name]
    database = open_database(sqlite_settings)
    await make_tenant(database)
    ran: list[tuple[str, Any]] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "FROM usage_rows" in statement:
            ran.append((statement, parameters))

    await ask(database, caller)
    statements = list(ran)
    assert statements
    async with database.engine.connect() as connection:
        for statement, parameters in statements:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [step[3] for step in plan]
            reads = [step for step in steps if "usage_rows" in step]
            assert len(reads) == 1, steps
            assert re.fullmatch(
                rf"SEARCH usage_rows USING INDEX {index} "
                r"\(tenant_id=\?( AND (api_key_id|model)=\?)? AND created_at>\? AND created_at<\?\)",
                reads[0],
            ), steps
    await database.close()
