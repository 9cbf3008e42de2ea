"""The request log: order, filters, pages, words, and what each caller may see."""

from api.db.engine import Database
from api.types import new_id
from api.usage.logs import Filters, logs
from api.usage.period import Period, last_days
from tests.conftest import MakeTenant
from tests.usage.factories import NOW, add, agent, ist, key, owner, usage_row

WEEK = last_days(7, NOW)


async def test_lines_come_newest_first_and_page_without_loss(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    ids = await add(database, tenant_id, *(usage_row(created_at=NOW - n // 3) for n in range(25)))
    pages = [
        await logs(database, owner(tenant_id), Filters(period=WEEK), limit=10, offset=offset)
        for offset in (0, 10, 20, 30)
    ]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    seen = [line for page in pages for line in page]
    assert {line.id for line in seen} == set(ids)
    order = [(line.created_at, line.id) for line in seen]
    assert order == sorted(order, reverse=True)


async def test_a_line_says_everything_about_its_request(database: Database, tenant: MakeTenant) -> None:
    tenant_id, key_id, user_id = await tenant(), new_id(), new_id()
    row = usage_row(
        endpoint="/v1/messages",
        status_code=502,
        outcome="failed",
        error_code="upstream_error",
        finish_reason="stop",
        streamed=True,
        live=False,
        first_byte_ms=40,
        input_tokens=5,
        cached_tokens=70,
        cache_write_tokens=900,
        charge=42,
        api_key_id=key_id,
        user_id=user_id,
        session_id="s-1",
        trace_id="t-1",
    )
    await add(database, tenant_id, row)
    (line,) = await logs(database, owner(tenant_id), Filters(period=WEEK), limit=10)
    assert line.generation_id == f"msg_{row.id.hex}"
    assert line.input_tokens == 975
    assert line.error_message == "The model's provider failed to answer."
    same = (
        "id created_at service endpoint model provider status_code outcome error_code finish_reason streamed"
        " live latency_ms first_byte_ms output_tokens charge api_key_id user_id session_id trace_id"
    )
    for name in same.split():
        assert getattr(line, name) == getattr(row, name), name


async def test_a_line_names_its_answer_as_the_client_knows_it(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    prefixes = {"/v1/chat/completions": "gen", "/anthropic/v1/messages": "msg", "/v1/responses": "resp"}
    await add(database, tenant_id, *(usage_row(endpoint=endpoint) for endpoint in prefixes))
    lines = await logs(database, owner(tenant_id), Filters(period=WEEK), limit=10)
    assert {line.endpoint: line.generation_id for line in lines} == {
        line.endpoint: f"{prefixes[line.endpoint]}_{line.id.hex}" for line in lines
    }
    assert len(lines) == 3


async def test_filters_leave_exactly_what_they_name(database: Database, tenant: MakeTenant) -> None:
    tenant_id, key_id = await tenant(), new_id()
    special = {
        "service": {"service": "tts"},
        "model": {"model": "bulbul:v3"},
        "api_key_id": {"api_key_id": key_id},
        "session_id": {"session_id": "s-1"},
        "trace_id": {"trace_id": "t-1"},
        "error": {"outcome": "cut"},
        "stopped": {"outcome": "client_gone"},
    }
    ids = await add(database, tenant_id, *(usage_row(**values) for values in special.values()))
    named = dict(zip(special, ids, strict=True))
    for name in ("service", "model", "api_key_id", "session_id", "trace_id"):
        chosen = Filters(period=WEEK, **special[name])
        assert [line.id for line in await logs(database, owner(tenant_id), chosen, limit=10)] == [named[name]]
    failed = await logs(database, owner(tenant_id), Filters(period=WEEK, status="error"), limit=10)
    assert [line.id for line in failed] == [named["error"]]
    good = await logs(database, owner(tenant_id), Filters(period=WEEK, status="ok"), limit=10)
    assert {line.id for line in good} == set(ids) - {named["error"]}
    both = Filters(period=WEEK, service="tts", model="bulbul:v3")
    assert await logs(database, owner(tenant_id), both, limit=10) == []


async def test_a_period_has_its_start_and_not_its_end(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    start, end = ist("2026-11-21T00:00:00"), ist("2026-11-22T00:00:00")
    ids = await add(
        database,
        tenant_id,
        *(usage_row(created_at=moment) for moment in (start - 1, start, end - 1, end)),
    )
    found = await logs(database, owner(tenant_id), Filters(period=Period(start, end)), limit=10)
    assert [line.id for line in found] == [ids[2], ids[1]]


async def test_every_caller_reads_only_the_lines_it_may_see(database: Database, tenant: MakeTenant) -> None:
    mine, other = await tenant(), await tenant()
    key_id, person = new_id(), new_id()
    by_key, by_person, by_nobody = await add(
        database, mine, usage_row(api_key_id=key_id), usage_row(user_id=person), usage_row()
    )
    canary = {"model": "canary", "trace_id": "canary", "session_id": "canary"}
    await add(database, other, usage_row(api_key_id=key_id, user_id=person, **canary))
    everything = {by_key, by_person, by_nobody}
    allowed = [
        (owner(mine), everything),
        (agent(mine, person), {by_person}),
        (key(mine, key_id), {by_key}),
        (key(mine, new_id()), set()),
        (key(mine, new_id(), scopes=("usage:read",)), everything),
        (key(mine, key_id, role="agent", user_id=person), {by_person}),
    ]
    for caller, expected in allowed:
        assert {line.id for line in await logs(database, caller, Filters(period=WEEK), limit=10)} == expected
        for name in ("model", "trace_id", "session_id"):
            foreign = Filters(period=WEEK, **{name: "canary"})
            assert await logs(database, caller, foreign, limit=10) == []
    asked = Filters(period=WEEK, api_key_id=key_id)
    assert await logs(database, key(mine, new_id()), asked, limit=10) == []


async def test_a_failure_is_told_in_our_words(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    told = {
        ("ok", ""): None,
        ("refused", "insufficient_credits"): "The balance did not cover the call.",
        ("cut", "upstream_error"): "The model's provider broke off the answer.",
        ("failed", "Traceback: sk-live-secret"): "The request failed.",
    }
    await add(database, tenant_id, *(usage_row(outcome=outcome, error_code=code) for outcome, code in told))
    lines = await logs(database, owner(tenant_id), Filters(period=WEEK), limit=10)
    assert {(line.outcome, line.error_code): line.error_message for line in lines} == told
