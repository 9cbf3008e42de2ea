"""The server as a process of its own: its environment, when it answers, what it costs."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from api.settings import Settings
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
_NOT_OURS = re.compile(r"^(CALLMISSED_.*|HOST|PORT|LOCAL|[A-Z0-9]+_(API_KEY|BASE_URL|PAT))$")


def environment(settings: Settings, port: int, **more: str) -> dict[str, str]:
    """What makes a child process load `settings`, as far as the tests here change them, on `port`."""
    kept = {name: value for name, value in os.environ.items() if not _NOT_OURS.match(name)}
    url = settings.database_url
    return {
        **kept,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOCAL": "0",
        "CALLMISSED_DATA_DIR": str(settings.data_dir),
        **({"CALLMISSED_DATABASE_URL": url.get_secret_value()} if url else {}),
        **settings.vendors,
        **more,
    }


@dataclass
class Child:
    """A server that runs: `log` is what it has written."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    async def end(self, how: signal.Signals = signal.SIGTERM, within: float = 30) -> int:
        """Send the signal and wait; the exit code, negative for a signal. Raises TimeoutError."""
        self.process.send_signal(how)
        async with asyncio.timeout(within):
            return await self.process.wait()


@asynccontextmanager
async def child(module: str, *arguments: str, log: Path, env: Mapping[str, str]) -> AsyncIterator[Child]:
    """`python -m <module> …` once it answers; killed afterwards if it still runs."""
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, cwd=ROOT, env=env, stdout=written, stderr=written
        )
    url = f"http://127.0.0.1:{env['PORT']}"
    try:
        await until_alive(url, lambda: process.returncode is not None, log)
        yield Child(process, url, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_alive(url: str, has_ended: Callable[[], bool], log: Path) -> None:
    """Returns when the server answers. Raises AssertionError with its log when it ended instead."""
    async with asyncio.timeout(60), httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            assert not has_ended(), log.read_text()  # noqa: ASYNC240 (the test is over)
            try:
                (await client.get("/livez")).raise_for_status()
                return
            except httpx2.TransportError:
                await asyncio.sleep(0.01)


@dataclass
class Forks:
    """Starts and ends the API's server again and again, on the same port and the same data."""

    process: asyncio.subprocess.Process
    url: str
    log: Path
    server: int = 0
    ended: "asyncio.Task[int] | None" = None

    async def start(self) -> None:
        """A server answers at `url` afterwards."""
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        self.server = await self._number()
        self.ended = ended = asyncio.create_task(self._number())
        await until_alive(self.url, ended.done, self.log)

    def send(self, how: signal.Signals) -> None:
        """Send the server a signal, at once."""
        os.kill(self.server, how)

    async def end(self, within: float = 30) -> int:
        """The server's exit code once it is gone, negative for a signal. Raises TimeoutError."""
        assert self.ended
        async with asyncio.timeout(within):
            return await self.ended

    async def _number(self) -> int:
        assert self.process.stdout
        line = await self.process.stdout.readline()
        assert line, self.log.read_text()
        return int(line)


@asynccontextmanager
async def forks(settings: Settings, log: Path, **more: str) -> AsyncIterator[Forks]:
    """Servers of `settings`, all on one free port; gone afterwards."""
    port = free_port()
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.whole.forks",
            cwd=ROOT,
            env=environment(settings, port, **more),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=written,
        )
    try:
        yield Forks(process, f"http://127.0.0.1:{port}", log)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


def resident_megabytes(pid: int) -> float:
    """Memory the process has in RAM now."""
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def processor_seconds(pid: int) -> float:
    """Processor time the process has used, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
