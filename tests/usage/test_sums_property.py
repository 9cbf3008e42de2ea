"""Whatever was used: days, services, lines and totals add up to the same, to the micro-credit."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.db.engine import Database
from api.types import DAY
from api.usage.logs import Filters, logs
from api.usage.outcomes import SUCCESS
from api.usage.period import date_of, day_of, last_days
from api.usage.reports import overview, summary
from tests.conftest import MakeTenant
from tests.usage.factories import NOW, add, owner, usage_row

ROW = st.fixed_dictionaries(
    {
        "created_at": st.integers(NOW - 95 * DAY, NOW + DAY),
        "service": st.sampled_from(["llm", "tts", "stt"]),
        "model": st.sampled_from([f"model-{n}" for n in range(13)]),
        "outcome": st.sampled_from([*SUCCESS, "refused", "failed", "cut", "timeout", "interrupted"]),
        "charge": st.integers(0, 10**12),
        "latency_ms": st.integers(0, 10**6),
        "input_tokens": st.integers(0, 10**5),
        "cached_tokens": st.integers(0, 10**5),
        "output_tokens": st.integers(1, 10**5),
    }
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=st.lists(ROW, max_size=30), days=st.integers(1, 90))
async def test_all_sums_are_the_sum_of_the_charges(
    database: Database, tenant: MakeTenant, rows: list[dict[str, Any]], days: int
) -> None:
    tenant_id = await tenant()
    await add(database, tenant_id, *(usage_row(**values) for values in rows))
    period = last_days(days, NOW)
    inside = [row for row in rows if period.start <= row["created_at"] < period.end]
    found = await summary(database, owner(tenant_id), days=days, now=NOW)
    spent = sum(row["charge"] for row in inside)
    assert found.totals.charge == spent
    assert sum(figures.charge for _, figures in found.series) == spent
    assert sum(figures.charge for _, figures in found.by_service) == spent
    assert found.totals.requests == sum(figures.requests for _, figures in found.series) == len(inside)
    assert found.totals.success == sum(row["outcome"] in SUCCESS for row in inside)
    assert found.totals.input_tokens == sum(row["input_tokens"] + row["cached_tokens"] for row in inside)
    assert found.totals.output_tokens == sum(row["output_tokens"] for row in inside)
    for day, figures in found.series:
        assert figures.charge == sum(
            row["charge"] for row in inside if date_of(day_of(row["created_at"])).isoformat() == day
        )
    by_model = [sum(r["charge"] for r in inside if r["model"] == f"model-{n}") for n in range(13)]
    assert [figures.charge for _, figures in found.by_model if figures.charge] == [
        charge for charge in sorted(by_model, reverse=True)[:10] if charge
    ]
    latencies = sorted(row["latency_ms"] for row in inside if row["outcome"] in SUCCESS)
    for percent, value in ((50, found.latency.p50), (95, found.latency.p95)):
        nearest_rank = -(-len(latencies) * percent // 100) - 1
        assert value == (latencies[nearest_rank] if latencies else None)
    lines = await logs(database, owner(tenant_id), Filters(period=period), limit=100)
    assert sum(line.charge for line in lines) == spent
    month = await overview(database, owner(tenant_id), now=NOW)
    assert month.month.charge == sum(
        row["charge"] for row in rows if 0 <= day_of(NOW) - day_of(row["created_at"]) < 30
    )
