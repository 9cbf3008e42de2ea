"""npm's `@copilotkit/aimock` as a child process: an OpenAI-compatible upstream that nobody here wrote.

    with aimock_process(tmp_path) as aimock:
        aimock.url                                # ends in /v1
        await aimock.misbehave(dropRate=1)        # every request from now on
        await aimock.behave()                     # no faults, an empty journal

What it answers is chosen by a word in the last user message: see `SCRIPT`.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

PROGRAM = Path(__file__).parents[1] / "npm" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
START_SECONDS = 20.0

GREETING = "Namaste from afar: नमस्ते, साफ़ जवाब. And a tail, so that it takes several chunks."
LONG = "A sentence that is cut before it comes to its end. " * 4
CALLS = (("call_1", "get_weather", {"city": "पुणे", "days": 3}), ("call_2", "get_time", {}))
USAGE = {"prompt_tokens": 17, "completion_tokens": 9, "total_tokens": 26}

SCRIPT: list[dict[str, Any]] = [
    {"match": {"userMessage": "greet"}, "response": {"content": GREETING, "usage": USAGE}},
    {"match": {"userMessage": "count"}, "response": {"content": GREETING}},  # its own reckoning of usage
    {
        "match": {"userMessage": "weather", "hasToolResult": False},
        "response": {
            "toolCalls": [{"id": i, "name": n, "arguments": arguments} for i, n, arguments in CALLS],
            "usage": USAGE,
        },
    },
    {
        "match": {"userMessage": "weather", "hasToolResult": True},
        "response": {"content": "Clear skies.", "usage": USAGE},
    },
    {
        "match": {"userMessage": "entities", "responseFormat": "json_schema"},
        "response": {"content": {"names": ["Asha", "Ravi"]}, "usage": USAGE},
    },
    {
        "match": {"userMessage": "throttle"},
        "response": {
            "error": {"message": "aimock's own words", "type": "rate_limit_error", "code": "rate_limited"},
            "status": 429,
            "retryAfter": 9,
        },
    },
    {
        "match": {"userMessage": "crash"},
        "response": {"error": {"message": "aimock's own words"}, "status": 500},
    },
    {
        "match": {"userMessage": "cut"},
        "response": {"content": LONG},
        "chunkSize": 8,
        "latency": 10,
        "truncateAfterChunks": 6,
    },
    {
        "match": {"userMessage": "vanish"},
        "response": {"content": LONG},
        "chunkSize": 8,
        "latency": 20,
        "disconnectAfterMs": 100,
    },
    {
        "match": {"userMessage": "slow"},
        "response": {"content": GREETING, "usage": USAGE},
        "streamingProfile": {"ttft": 500, "tps": 20},
    },
    {"match": {"userMessage": "forever"}, "response": {"content": LONG * 20}, "chunkSize": 8, "latency": 50},
]


@dataclass(frozen=True, slots=True)
class Aimock:
    """The running upstream."""

    origin: str

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    async def misbehave(self, **rates: float) -> None:
        """Faults for all requests: dropRate, malformedRate, disconnectRate, rateLimitRate, latencyMs."""
        await self._control("POST", "chaos", json.dumps(rates))

    async def behave(self) -> None:
        """No faults, and a journal that starts here."""
        await self._control("DELETE", "chaos")
        await self._control("POST", "reset/journal")

    async def requests(self) -> list[dict[str, Any]]:
        """What it was asked since `behave`."""
        found: list[dict[str, Any]] = (await self._control("GET", "journal")).json()
        return found

    async def _control(self, method: str, what: str, body: str = "") -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.request(method, f"{self.origin}/__aimock/{what}", content=body)
        return answer.raise_for_status()


@contextmanager
def aimock_process(folder: Path) -> Iterator[Aimock]:
    """aimock on a free port with `SCRIPT`, gone afterwards. Raises RuntimeError when it does not start."""
    if not PROGRAM.exists():
        raise RuntimeError("aimock is not installed: run `python3 deploy/setup.py --local --dev --tests`")
    script, log = folder / "script.json", folder / "aimock.log"
    script.write_text(json.dumps({"fixtures": SCRIPT}))
    command = ["node", PROGRAM, "--port", "0", "--fixtures", script, "--validate-on-load", "--strict"]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield Aimock(_origin(process, log))
        finally:
            process.kill()


def _origin(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        _, said, rest = log.read_text().partition("listening on ")
        if said and "\n" in rest:
            return rest.partition("\n")[0].strip()
        time.sleep(0.02)
    raise RuntimeError(f"aimock did not start: {log.read_text()}")
