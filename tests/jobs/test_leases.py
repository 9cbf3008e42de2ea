"""Periodic work runs in one process, goes on after failures, and frees what dead processes hold."""

import asyncio
from collections.abc import Callable

from api import ledger
from api.db.engine import Database
from api.db.session import tenant_session
from api.db.writer import Writer
from api.jobs.leases import Job, give_back, repeat, take_lease
from api.jobs.runner import run_jobs
from api.types import new_id, now
from tests.conftest import MakeTenant
from tests.factories import usage


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


async def _stop(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lease_is_one_holders_until_it_runs_out(database: Database) -> None:
    async def take(holder: str, at: int) -> bool:
        return await take_lease(database, "work", holder, at=at, until=at + 100)

    assert await take("first", 0)
    assert not await take("second", 99)
    assert await take("first", 99)
    assert not await take("second", 198)
    assert await take("second", 199)
    assert not await take("first", 200)


async def test_of_many_processes_one_takes_the_lease(database: Database) -> None:
    taken = await asyncio.gather(
        *(take_lease(database, "work", str(number), at=5, until=50) for number in range(8))
    )
    assert sum(taken) == 1


async def test_what_is_given_back_is_free_at_once(database: Database) -> None:
    assert await take_lease(database, "work", "first", at=0, until=10_000)
    await give_back(database, "first")
    assert await take_lease(database, "work", "second", at=1, until=10_000)


async def test_a_job_that_fails_runs_again(database: Database) -> None:
    runs: list[int] = []

    async def run() -> None:
        runs.append(len(runs))
        raise RuntimeError("not today")

    running = asyncio.create_task(repeat(database, Job("work", 0.02, run), "me", now))
    await _until(lambda: len(runs) >= 3)
    await _stop(running)


async def test_two_processes_do_not_both_run_a_job(database: Database) -> None:
    ran: list[str] = []

    def job(holder: str) -> Job:
        async def run() -> None:
            ran.append(holder)

        return Job("work", 0.2, run)

    tasks = [asyncio.create_task(repeat(database, job(name), name, now)) for name in ("first", "second")]
    await _until(lambda: len(ran) >= 3)
    await _stop(*tasks)
    assert len(set(ran)) == 1


async def test_a_start_frees_what_a_dead_process_held_and_not_what_is_held_after_it(
    database: Database, writer: Writer, tenant: MakeTenant
) -> None:
    tenant_id, held = await tenant(credits=100), []
    for expires_in in (-1, 600_000, 600_000):
        if len(held) == 2:
            await asyncio.sleep(0.005)
            jobs = run_jobs(database, writer)
        held.append(new_id())
        assert await ledger.hold(
            writer,
            tenant_id=tenant_id,
            request_id=held[-1],
            amount=10,
            context=usage(),
            expires_at=now() + expires_in,
        )
    running = asyncio.create_task(jobs)
    left = 10 if database.is_sqlite else 20
    async with asyncio.timeout(5):
        while True:
            async with tenant_session(database, tenant_id) as session:
                if (await ledger.balance(session)).held == left:
                    break
            await asyncio.sleep(0.01)
    await _stop(running)
    assert await ledger.settle(writer, tenant_id=tenant_id, request_id=held[2], cost=3, usage=usage(3)) == 3
