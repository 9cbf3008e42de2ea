"""Owns the chat engine inside this server: a child process, started on first use, that dies with its parent.

It speaks OpenAI's wire on a loopback port under a random key, so the gateway calls it like any vendor. It is
started again after a crash, with growing waits, and stopped when nobody asked for it in a while.
"""

import asyncio
import importlib.util
import json
import logging
import math
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from api import errors
from api.providers.weights import load_weights
from api.settings import Settings

_log = logging.getLogger(__name__)

MODEL = "smollm2-135m"
SLOTS = 2
CONTEXT = 4096
"""Tokens of all slots together: each has its share."""

START_SECONDS = 60.0
IDLE_SECONDS = 600.0
END_SECONDS = 5.0
STEADY_SECONDS = 60.0
"""A child that lived so long starts the waits from zero when it dies."""

WAITS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before the next start after the first, second, … failure in a row."""

_PATIENCE = 2.0  # seconds a call waits for its turn; after that it is told when to come again
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    base_url: str
    key: str
    started_at: float
    said: "_Tail"
    wanted: bool = True
    """False once it was told to end."""


class LocalEngine:
    """Supervises the engine's process."""

    def __init__(self, settings: Settings, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._settings = settings
        self._weights = load_weights()[MODEL]
        self._has_engine = importlib.util.find_spec("xllamacpp") is not None
        # A call that began with the last `address()` may take as long as a request may.
        self._idle_seconds = max(idle_seconds, settings.request_deadline)
        self._available = False
        self._child: _Child | None = None
        self._starting: asyncio.Task[_Child] | None = None
        self._attending: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._not_before = 0.0
        self._used_at = 0.0

    @property
    def available(self) -> bool:
        """Whether weights and engine are there; weights that arrive later are noticed."""
        if not self._available:
            self._available = self.problem is None
        return self._available

    @property
    def problem(self) -> str | None:
        """Why the engine cannot run, in a sentence that says what to do; None when it can."""
        if not self._settings.local:
            return "Local engines are turned off: start without LOCAL=0."
        if not self._has_engine:
            return "The local chat engine is missing. Run `pip install -r requirements-local.txt`."
        if not self._weights.is_here(self._settings):
            return "The local model's weights are missing. Run `python -m api models pull`."
        return None

    @property
    def process_id(self) -> int | None:
        """The child's process id while it runs."""
        child = self._child
        return child.process.pid if child is not None and child.process.returncode is None else None

    async def address(self) -> tuple[str, str]:
        """Base URL (ending in `/v1`) and key of the running engine; starts it when it is not running.

        However many ask at once, one child is started. Raises a 503 when it cannot run or failed to start.
        """
        self._used_at = time.monotonic()
        child = self._child
        if child is None or child.process.returncode is not None:
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
                self._starting.add_done_callback(self._started)
            child = await asyncio.shield(self._starting)
            self._used_at = time.monotonic()
        return child.base_url, child.key

    async def close(self) -> None:
        """The child is gone afterwards."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._child is not None:
            await self._stop(self._child)
        await asyncio.gather(*self._attending)

    async def _stop(self, child: _Child) -> None:
        if self._child is child:
            self._child = None
        child.wanted = False
        child.stdin.close()  # asks it to end
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await child.process.wait()
        await _kill(child.process)

    def _started(self, task: asyncio.Task[_Child]) -> None:
        self._starting = None
        if task.cancelled() or task.exception() is not None:
            return
        self._child = task.result()
        self._used_at = time.monotonic()
        attending = asyncio.create_task(self._attend(self._child))
        self._attending.add(attending)
        attending.add_done_callback(self._attending.discard)

    async def _start(self) -> _Child:
        if self.problem is not None:
            raise errors.unavailable("service_unavailable", self.problem, retry_after=60)
        wait = self._not_before - time.monotonic()
        if wait > _PATIENCE:
            raise _not_now(math.ceil(wait))
        await asyncio.sleep(max(0.0, wait))
        spawning = asyncio.create_task(_spawn())
        try:
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await _kill(await spawning)  # a process is there or will be: nobody else knows of it
            raise
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("pipes were asked for")
        said = _Tail(process.stderr)
        try:
            async with asyncio.timeout(START_SECONDS):
                base_url, key = await self._greet(process.stdin, process.stdout)
            return _Child(process, process.stdin, base_url, key, time.monotonic(), said)
        except (TimeoutError, ValueError, OSError) as error:
            await _kill(process)
            await said.end
            self._failed("the local engine did not start", process.returncode, said)
            raise _not_now(1) from error
        except asyncio.CancelledError:
            await _kill(process)
            raise

    async def _greet(self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> tuple[str, str]:
        key = secrets.token_urlsafe(32)
        wanted = {
            "model": str(self._weights.path(self._settings).resolve()),
            "alias": MODEL,
            "key": key,
            "context": CONTEXT,
            "slots": SLOTS,
        }
        stdin.write(json.dumps(wanted).encode() + b"\n")
        return json.loads(await stdout.readline())["url"] + "/v1", key

    async def _attend(self, child: _Child) -> None:
        while child.process.returncode is None:
            idle_in = self._used_at + self._idle_seconds - time.monotonic()
            if idle_in <= 0 and child.wanted:
                await self._stop(child)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, idle_in)):
                    await child.process.wait()
        await child.said.end
        if child.wanted:
            self._child = None if self._child is child else self._child
            if time.monotonic() - child.started_at > STEADY_SECONDS:
                self._failures = 0
            self._failed("the local engine died", child.process.returncode, child.said)

    def _failed(self, event: str, status: int | None, said: "_Tail") -> None:
        wait = WAITS[min(self._failures, len(WAITS) - 1)]
        self._failures += 1
        self._not_before = time.monotonic() + wait
        _log.warning(event, extra={"status": status, "said": said.lines(), "wait_seconds": wait})


class _Tail:
    """Reads what a process says on standard error to its end, and remembers the last of it."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._kept = b""
        self.end = asyncio.create_task(self._read(stream))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while block := await stream.read(4096):
            self._kept = (self._kept + block)[-4096:]

    def lines(self) -> list[str]:
        return self._kept.decode(errors="replace").splitlines()[-5:]


def _not_now(retry_after: int) -> errors.ApiError:
    return errors.unavailable(
        "service_unavailable", "The local model is starting again. Retry shortly.", retry_after=retry_after
    )


async def _spawn() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.providers.local_server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={"OMP_NUM_THREADS": "1"},  # and none of our secrets
        start_new_session=True,  # a Ctrl-C is for us: calls that run may finish
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
