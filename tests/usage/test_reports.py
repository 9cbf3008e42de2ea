"""Sums over usage rows: golden figures, IST days, what each caller may see."""

from api.db.engine import Database
from api.types import DAY, new_id
from api.usage.reports import Figures, overview, summary
from tests.conftest import MakeTenant
from tests.usage.factories import NOW, add, agent, ist, key, owner, usage_row


async def test_a_summary_has_the_golden_figures(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    await add(
        database,
        tenant_id,
        usage_row(charge=1_000, latency_ms=100, input_tokens=10, cached_tokens=3, cache_write_tokens=2),
        usage_row(charge=3_000, latency_ms=300, created_at=NOW - DAY, model="sarvam-105b"),
        usage_row(charge=500, latency_ms=200, service="tts", model="bulbul:v3", input_tokens=7),
        usage_row(charge=0, latency_ms=9_000, outcome="failed", status_code=502, output_tokens=0),
        usage_row(
            charge=70, latency_ms=400, outcome="client_gone", status_code=499, created_at=NOW - 2 * DAY
        ),
    )
    found = await summary(database, owner(tenant_id), days=3, now=NOW)
    assert found.totals == Figures(
        requests=5, success=4, charge=4_570, input_tokens=15 + 10 + 7 + 10 + 10, output_tokens=80
    )
    assert (found.totals.errors, found.totals.success_rate) == (1, 0.8)
    assert (found.latency.average, found.latency.p50, found.latency.p95) == (250, 200, 400)
    assert [(name, one.requests, one.charge) for name, one in found.by_service] == [
        ("llm", 4, 4_070),
        ("tts", 1, 500),
    ]
    assert [(name, one.requests, one.charge, one.output_tokens) for name, one in found.by_model] == [
        ("sarvam-105b", 1, 3_000, 20),
        ("kimi-k2.5-fast", 3, 1_070, 40),
        ("bulbul:v3", 1, 500, 20),
    ]
    assert [(day, one.requests, one.charge) for day, one in found.series] == [
        ("2026-11-20", 1, 70),
        ("2026-11-21", 1, 3_000),
        ("2026-11-22", 3, 1_500),
    ]


async def test_an_organization_without_requests_has_zeros_and_every_day(
    database: Database, tenant: MakeTenant
) -> None:
    tenant_id = await tenant()
    found = await summary(database, owner(tenant_id), days=90, now=NOW)
    assert (found.totals, found.totals.success_rate) == (Figures(), None)
    assert (found.latency.average, found.latency.p50, found.latency.p95) == (None, None, None)
    assert (found.by_service, found.by_model) == ((), ())
    assert [day for day, _ in found.series][::89] == ["2026-08-25", "2026-11-22"]
    assert {one for _, one in found.series} == {Figures()}


async def test_days_are_cut_at_midnight_in_india(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    moments = {
        "2026-11-20T23:59:59.999": 1,
        "2026-11-21T00:00:00": 10,
        "2026-11-21T23:59:59.999": 100,
        "2026-11-22T00:00:00": 1_000,
        "2026-11-22T05:29:59.999": 10_000,  # the last moment of the day before in UTC
        "2026-11-22T05:30:00": 100_000,
        "2026-11-22T23:59:59.999": 1_000_000,
        "2026-11-23T00:00:00": 10_000_000,
    }
    rows = [usage_row(created_at=ist(text), charge=charge) for text, charge in moments.items()]
    await add(database, tenant_id, *rows)
    for clock in ("2026-11-22T00:00:00", "2026-11-22T03:00:00", "2026-11-22T23:59:59.999"):
        found = await summary(database, owner(tenant_id), days=2, now=ist(clock))
        assert [(day, one.charge) for day, one in found.series] == [
            ("2026-11-21", 110),
            ("2026-11-22", 1_111_000),
        ]
        assert found.totals.charge == 1_111_110
        today = (await overview(database, owner(tenant_id), now=ist(clock))).today
        assert (today.charge, today.requests) == (1_111_000, 4)
    yesterday = await summary(database, owner(tenant_id), days=1, now=ist("2026-11-21T23:59:59.999"))
    assert [(day, one.charge) for day, one in yesterday.series] == [("2026-11-21", 110)]


async def test_only_the_ten_dearest_models_are_named(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    await add(
        database, tenant_id, *(usage_row(model=f"model-{n:02}", charge=100 * (n % 12)) for n in range(24))
    )
    found = await summary(database, owner(tenant_id), days=1, now=NOW)
    assert [name for name, _ in found.by_model] == [
        name for n in (11, 10, 9, 8, 7) for name in (f"model-{n:02}", f"model-{n + 12:02}")
    ]
    assert found.totals.requests == 24


async def test_the_overview_has_the_golden_figures(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    rows = [usage_row(created_at=NOW - day * DAY, charge=1, latency_ms=1_000) for day in range(40)]
    today = [
        usage_row(created_at=NOW - n, charge=0, latency_ms=n, outcome="ok" if n % 2 else "failed")
        for n in range(1, 14)
    ]
    ids = await add(database, tenant_id, *today, *rows)
    found = await overview(database, owner(tenant_id), now=NOW)
    assert (found.today.charge, found.today.requests) == (1, 14)
    assert (found.month.charge, found.month.requests) == (30, 43)
    assert found.success_rate == 14 / 20
    assert (found.latency.average, found.latency.p50, found.latency.p95) == (504, 13, 1_000)
    assert (len(found.series), found.series[0][0], found.series[-1][0]) == (30, "2026-10-24", "2026-11-22")
    assert [line.id for line in found.recent] == [ids[13], *ids[:7]]


async def test_every_caller_sums_only_what_it_may_see(database: Database, tenant: MakeTenant) -> None:
    mine, other = await tenant(), await tenant()
    key_id, sister, person, colleague = new_id(), new_id(), new_id(), new_id()
    await add(
        database,
        mine,
        usage_row(charge=1, api_key_id=key_id),
        usage_row(charge=10, api_key_id=sister),
        usage_row(charge=100, api_key_id=new_id(), user_id=person),
        usage_row(charge=1_000, user_id=colleague),
    )
    canary = {"charge": 777_777, "model": "canary", "service": "canary", "latency_ms": 777_777}
    await add(
        database,
        other,
        usage_row(api_key_id=key_id, user_id=person, **canary),
        usage_row(created_at=NOW - DAY, **canary),
    )
    allowed = [
        (owner(mine), 1_111),
        (owner(mine, role="admin"), 1_111),
        (owner(mine, role=None), 0),
        (agent(mine, person), 100),
        (agent(mine, new_id()), 0),
        (key(mine, key_id), 1),
        (key(mine, key_id, scopes=("bots:read",)), 1),
        (key(mine, key_id, scopes=("usage:read",)), 1_111),
        (key(mine, sister, scopes=("*",)), 1_111),
        (key(mine, sister, scopes=("*",), role="agent", user_id=colleague), 1_000),
        (key(mine, sister, role="owner", user_id=person), 1_111),
        (key(mine, new_id()), 0),
    ]
    for caller, charge in allowed:
        found = await summary(database, caller, days=90, now=NOW)
        first = await overview(database, caller, now=NOW)
        assert (found.totals.charge, first.month.charge) == (charge, charge), caller
        assert sum(line.charge for line in first.recent) == charge, caller
        assert sum(figures.charge for _, figures in found.series) == charge, caller
        assert "canary" not in repr((found, first)) and "777777" not in repr((found, first)), caller
