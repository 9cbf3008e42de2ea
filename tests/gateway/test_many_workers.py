"""Several processes on one PostgreSQL and one Valkey are one gateway: one wallet, one limit, one truth."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from api.db.session import tenant_session
from api.ledger import verify
from api.money import MICRO
from api.settings import Settings
from api.tables import ApiKey
from api.types import now
from tests.gateway.test_chat import ASK, CHAT, IN, OUT
from tests.running import Customer, Running, balance, customer, open_holds, running, usage_rows
from tests.servers import free_port, run_sql
from tests.upstream import Upstream, whole

ROOT = Path(__file__).parents[2]
START_SECONDS = 40.0
PROMPT_TOKENS = 9
HELD = PROMPT_TOKENS * IN + 50 * OUT
"""What ASK is held for; the scripted upstream's answer uses all of it."""


@pytest.fixture
def shared_settings(postgresql_settings: Settings, valkey_url: str, upstream: Upstream) -> Settings:
    """Two workers on one PostgreSQL and one Valkey; OpenAI is the scripted upstream."""
    upstream.script = lambda _: whole(
        {
            "id": "x",
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 50},
        }
    )
    return postgresql_settings.model_copy(
        update={
            "redis_url": SecretStr(valkey_url),
            "workers": 2,
            "vendors": {"OPENAI_BASE_URL": upstream.url},
            "local": False,
        }
    )


@pytest.fixture
async def pair(shared_settings: Settings) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with nothing in common but the database, the store and the data folder."""
    async with running(shared_settings) as one, running(shared_settings) as two:
        yield one, two
        assert (await verify(one.services.database)).drift == []


async def statuses(doors: list[httpx2.AsyncClient], who: Customer, calls: int) -> Counter[int]:
    """What so many calls at once get, dealt out evenly over the doors."""
    answers = await asyncio.gather(
        *(doors[n % len(doors)].post(CHAT, json=ASK, headers=who.headers) for n in range(calls))
    )
    return Counter(answer.status_code for answer in answers)


async def test_five_hundred_calls_over_two_workers_on_a_wallet_for_ten_give_exactly_ten(
    pair: tuple[Running, Running], upstream: Upstream
) -> None:
    one, two = pair
    ten = await customer(one.services, credits=f"{10 * HELD / MICRO:.6f}")
    assert await statuses([one.client, two.client], ten, 500) == {200: 10, 402: 490}
    left = await balance(two.services, ten.tenant_id)
    assert (left.total, left.held) == (0, 0)
    rows = await usage_rows(one.services, ten.tenant_id)
    assert [row.charge for row in rows] == [HELD] * 10 and len(upstream.requests) == 10
    assert await open_holds(two.services, ten.tenant_id) == 0


async def test_a_budget_holds_over_both_workers(pair: tuple[Running, Running]) -> None:
    one, two = pair
    limited = await customer(one.services, budget_limit=7 * HELD)
    assert await statuses([one.client, two.client], limited, 60) == {200: 7, 402: 53}
    assert (await balance(one.services, limited.tenant_id)).total == 1000 * MICRO - 7 * HELD


async def test_the_rate_limit_of_a_key_is_exact_over_both_workers(pair: tuple[Running, Running]) -> None:
    one, two = pair
    slow = await customer(one.services, rate_limit_rpm=25)
    assert await statuses([one.client, two.client], slow, 200) == {200: 25, 429: 175}
    assert await statuses([two.client], slow, 5) == {429: 5}


async def test_a_revoked_key_is_refused_by_both_workers_within_about_a_second(
    pair: tuple[Running, Running],
) -> None:
    one, two = pair
    leaver = await customer(one.services)
    for door in pair:
        assert (await door.client.post(CHAT, json=ASK, headers=leaver.headers)).status_code == 200
    async with tenant_session(one.services.database, leaver.tenant_id, writes=True) as session:
        await session.execute(update(ApiKey).where(col(ApiKey.id) == leaver.key_id).values(revoked_at=now()))
    revoked = time.monotonic()
    for door in (two, one):
        while (await door.client.post(CHAT, json=ASK, headers=leaver.headers)).status_code == 200:
            assert time.monotonic() - revoked < 1.5, "still open"
            await asyncio.sleep(0.05)
        refused = await door.client.post(CHAT, json=ASK, headers=leaver.headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_refusal_whose_reason_cannot_be_read_is_a_refusal_all_the_same(
    pair: tuple[Running, Running], shared_settings: Settings
) -> None:
    empty = await customer(pair[0].services, credits="0")
    assert shared_settings.database_url is not None
    server = shared_settings.database_url.get_secret_value()
    await run_sql(server, "REVOKE SELECT ON wallets FROM callmissed_app")
    try:
        answer = await pair[0].client.post(CHAT, json=ASK, headers=empty.headers)
    finally:
        await run_sql(server, "GRANT SELECT ON wallets TO callmissed_app")
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_credits")
    assert answer.headers["x-should-retry"] == "false"


def _environment(settings: Settings, **more: str) -> dict[str, str]:
    """The variables that say what `settings` says, and nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    said = {"CALLMISSED_DATA_DIR": str(settings.data_dir), "LOCAL": "0", **settings.vendors}
    if settings.database_url:
        said["CALLMISSED_DATABASE_URL"] = settings.database_url.get_secret_value()
    if settings.redis_url:
        said["CALLMISSED_REDIS_URL"] = settings.redis_url.get_secret_value()
    return kept | said | more


@dataclass(frozen=True, slots=True)
class Process:
    """A server of its own, as an operator starts it."""

    url: str
    pid: int


@contextmanager
def served(settings: Settings, log: Path, *options: str) -> Iterator[Process]:
    """`python -m api serve` on a free port, ready; stopped politely afterwards, and it must obey."""
    port = free_port()
    command = [sys.executable, "-m", "api", "serve", *options]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=_environment(settings, PORT=str(port)), stdout=output, stderr=output
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _await_ready(url, process, log)
            yield Process(url, process.pid)
            process.terminate()
            assert process.wait(15) in (0, -15), log.read_text()
        finally:
            process.kill()


def _await_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.mark.slow
async def test_two_processes_share_one_wallet_and_one_limit(
    shared_settings: Settings, tmp_path: Path
) -> None:
    with (
        served(shared_settings, tmp_path / "one.log") as one,
        served(shared_settings, tmp_path / "two.log", "--workers", "2") as two,
    ):
        async with (
            running(shared_settings) as here,
            httpx2.AsyncClient(base_url=one.url, timeout=60, trust_env=False) as first,
            httpx2.AsyncClient(base_url=two.url, timeout=60, trust_env=False) as second,
        ):
            ten = await customer(here.services, credits=f"{10 * HELD / MICRO:.6f}")
            assert await statuses([first, second], ten, 300) == {200: 10, 402: 290}
            left = await balance(here.services, ten.tenant_id)
            assert (left.total, left.held) == (0, 0)
            slow = await customer(here.services, rate_limit_rpm=15)
            assert await statuses([first, second], slow, 90) == {200: 15, 429: 75}
            assert (await verify(here.services.database)).drift == []


def _refused(settings: Settings, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "api", "serve", *options],
        cwd=ROOT,
        env=_environment(settings, PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, -9) and done.stdout == ""
    return done.stderr


def test_two_workers_on_sqlite_are_refused_in_one_sentence(
    sqlite_settings: Settings, valkey_url: str
) -> None:
    with_redis = sqlite_settings.model_copy(update={"redis_url": SecretStr(valkey_url)})
    said = _refused(with_redis, "--workers", "2")
    assert "PostgreSQL" in said and "CALLMISSED_DATABASE_URL" in said
    assert said.count("\n") == 1 and "Traceback" not in said


def test_two_workers_without_redis_are_refused_in_one_sentence(postgresql_settings: Settings) -> None:
    said = _refused(postgresql_settings, "--workers", "2")
    assert "CALLMISSED_REDIS_URL" in said
    assert said.count("\n") == 1 and "Traceback" not in said
