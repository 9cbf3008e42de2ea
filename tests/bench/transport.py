"""CPU of the upstream client per request, at 32 callers: our transport, httpx2's, and httpx2's whole client.

    python -m tests.bench.transport

The upstream is another process; the ways take turns, and figures are medians.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import httpx2
import uvloop

from api.providers.transport import Target, Transport, header_block, open_transport
from tests.upstream import completion, scripted_upstream

CALLERS, CALLS, ROUNDS = 32, 4_000, 3
HEADERS = {"authorization": "Bearer key", "content-type": "application/json"}
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello there"}]}'
ANSWER = completion("word " * 60)

Call = Callable[[], Awaitable[bytes]]


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    uvloop.run(compare(ours.recv()))
    server.terminate()


def serve(parent: Connection) -> None:
    async def forever() -> None:
        async with scripted_upstream() as upstream:

            def script(_: object) -> bytes:
                upstream.requests.clear()
                return ANSWER

            upstream.script = script
            parent.send(upstream.url)
            await asyncio.Event().wait()

    uvloop.run(forever())


async def compare(url: str) -> None:
    target = Target.parse(f"{url}/chat/completions")
    limits = httpx2.Limits(max_connections=512, max_keepalive_connections=512)
    client = httpx2.AsyncClient(limits=limits, trust_env=False)
    transports = {name: open_transport(name) for name in ("own", "httpx")}  # type: ignore[arg-type]

    async def by_client() -> bytes:
        return (await client.post(target.url, content=BODY, headers=HEADERS)).content

    ways: dict[str, Call] = {name: sender(transport, target) for name, transport in transports.items()}
    ways["httpx2.AsyncClient"] = by_client
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            found[name].append(await cpu_of(call))
    base = statistics.median(found["own"])
    for name, figures in found.items():
        each = statistics.median(figures)
        print(f"{name:20}{each:8.1f} µs CPU a request{each / base:8.1f} x ours")
    await client.aclose()
    for transport in transports.values():
        await transport.aclose()


def sender(transport: Transport, target: Target) -> Call:
    headers = header_block([(name.encode(), value.encode()) for name, value in HEADERS.items()])

    async def call() -> bytes:
        async with await transport.send(b"POST", target, headers, BODY) as response:
            return await response.read(1 << 20)

    return call


async def cpu_of(call: Call) -> float:
    """Microseconds of CPU of this process for each of `CALLS` calls."""

    async def caller() -> None:
        for _ in range(CALLS // CALLERS):
            await call()

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.process_time() - before) / CALLS * 1e6


if __name__ == "__main__":
    main()
