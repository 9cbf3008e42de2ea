"""The log as CSV: RFC 4180, harmless in a spreadsheet, bounded, and never held in memory as a whole."""

import csv
import io
from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from api.db.engine import Database
from api.types import new_id
from api.usage import export
from api.usage.export import COLUMNS, csv_blocks, moment_text, usd_text
from api.usage.logs import Filters
from api.usage.period import last_days
from tests.conftest import MakeTenant
from tests.usage.factories import NOW, add, ist, key, owner, usage_row

WEEK = Filters(period=last_days(7, NOW))


def cells(blocks: list[bytes]) -> list[dict[str, str]]:
    text = b"".join(blocks).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


async def test_an_export_has_a_line_for_every_request(database: Database, tenant: MakeTenant) -> None:
    tenant_id, key_id = await tenant(), new_id()
    row = usage_row(
        created_at=ist("2026-11-22T05:30:00.007"),
        charge=121_500,
        cached_tokens=5,
        api_key_id=key_id,
        outcome="failed",
        status_code=502,
        error_code="upstream_error",
        trace_id='say "hi", then\ngo',
    )
    await add(database, tenant_id, row)
    blocks = [block async for block in csv_blocks(database, owner(tenant_id), WEEK)]
    assert blocks[0].startswith(",".join(COLUMNS).encode() + b"\r\n")
    assert cells(blocks) == [
        {
            "id": str(row.id),
            "created_at": "2026-11-22T00:00:00.007Z",
            "service": "llm",
            "endpoint": "/v1/chat/completions",
            "method": "POST",
            "model": "kimi-k2.5-fast",
            "status_code": "502",
            "latency_ms": "100",
            "input_tokens": "15",
            "output_tokens": "20",
            "audio_seconds": "0",
            "cost_usd": "0.001215",
            "credits": "0.1215",
            "request_id": f"gen_{row.id.hex}",
            "api_key_id": str(key_id),
            "error_message": "The model's provider failed to answer.",
            "trace_id": 'say "hi", then\ngo',
            "session_id": "",
        }
    ]


async def test_no_cell_is_a_formula(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    fields = ("service", "endpoint", "model", "session_id", "trace_id")
    attacks = [f"{start}HYPERLINK(0)" for start in "=+-@\t\r\n"]
    rows = [usage_row(created_at=NOW - n, **dict.fromkeys(fields, text)) for n, text in enumerate(attacks)]
    await add(database, tenant_id, *rows)
    lines = cells([block async for block in csv_blocks(database, owner(tenant_id), WEEK)])
    for line, attack in zip(lines, attacks, strict=True):
        assert [line[name] for name in fields] == [f"'{attack}"] * len(fields)
        assert line["latency_ms"] == "100"


async def test_an_empty_export_is_the_heading(database: Database, tenant: MakeTenant) -> None:
    tenant_id = await tenant()
    blocks = [block async for block in csv_blocks(database, owner(tenant_id), WEEK)]
    assert blocks == [",".join(COLUMNS).encode() + b"\r\n"]


async def test_an_export_ends_at_its_limit_and_is_read_in_batches(
    database: Database, tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_ROWS", 50)
    monkeypatch.setattr(export, "_BATCH", 15)
    tenant_id = await tenant()
    # Seven rows share each moment, so that batches end in the middle of one.
    ids = await add(database, tenant_id, *(usage_row(created_at=NOW - n // 7) for n in range(60)))
    blocks = [block async for block in csv_blocks(database, owner(tenant_id), WEEK)]
    assert [len(cells([blocks[0]])), *(block.count(b"\r\n") for block in blocks[1:])] == [15, 15, 15, 5]
    order = sorted(zip((NOW - n // 7 for n in range(60)), ids, strict=True), reverse=True)
    assert [line["id"] for line in cells(blocks)] == [str(row_id) for _, row_id in order[:50]]


async def test_no_connection_is_held_while_a_block_is_on_its_way(
    database: Database, tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BATCH", 2)
    tenant_id = await tenant()
    await add(database, tenant_id, *(usage_row(created_at=NOW - n) for n in range(5)))
    open_now = 0

    @event.listens_for(database.engine.sync_engine, "checkout")
    def taken(*_: object) -> None:
        nonlocal open_now
        open_now += 1

    @event.listens_for(database.engine.sync_engine, "checkin")
    def returned(*_: object) -> None:
        nonlocal open_now
        open_now -= 1

    sent = 0
    async for _ in csv_blocks(database, owner(tenant_id), WEEK):
        assert open_now == 0
        sent += 1
    assert sent == 3


async def test_rows_that_arrive_meanwhile_change_nothing(
    database: Database, tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BATCH", 2)
    tenant_id = await tenant()
    ids = await add(database, tenant_id, *(usage_row(created_at=NOW - n) for n in range(5)))
    blocks = []
    async for block in csv_blocks(database, owner(tenant_id), WEEK):
        blocks.append(block)
        await add(database, tenant_id, usage_row(created_at=NOW + len(blocks)))
    assert [line["id"] for line in cells(blocks)] == [str(row_id) for row_id in ids]


async def test_an_export_holds_what_its_caller_may_see(database: Database, tenant: MakeTenant) -> None:
    mine, other, key_id = await tenant(), await tenant(), new_id()
    (own, _) = await add(database, mine, usage_row(api_key_id=key_id), usage_row(api_key_id=new_id()))
    await add(database, other, usage_row(api_key_id=key_id, model="canary"))
    found = cells([block async for block in csv_blocks(database, key(mine, key_id), WEEK)])
    assert [line["id"] for line in found] == [str(own)]


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1, "0.00000001"), (1_000_000, "0.01"), (100_000_000, "1"), (12_345_678_901, "123.45678901")],
)
def test_dollars_are_exact(amount: int, text: str) -> None:
    assert usd_text(amount) == text


def test_moments_are_utc_with_milliseconds() -> None:
    moment = 1_779_445_230_009
    assert moment_text(moment) == "2026-05-22T10:20:30.009Z"
    assert datetime.fromisoformat(moment_text(moment)) == datetime(2026, 5, 22, 10, 20, 30, 9000, tzinfo=UTC)
