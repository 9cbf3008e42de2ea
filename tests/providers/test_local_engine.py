"""The chat engine inside the server: a real process with the real model, that never outlives its parent."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from api.errors import ApiError
from api.providers import local_engine
from api.providers.local_engine import LocalEngine
from api.settings import Settings, load_settings
from tests.weights import lend_weights

ROOT = Path(__file__).resolve().parents[2]
CAPITAL = {
    "messages": [{"role": "user", "content": "What is the capital of India?"}],
    "max_tokens": 24,
    "temperature": 0,
}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    settings = load_settings(data_dir=tmp_path, vendors={})
    lend_weights(settings)
    opened = LocalEngine(settings)
    yield opened
    await opened.close()


async def _chat(engine: LocalEngine, **changes: object) -> httpx2.Response:
    url, key = await engine.address()
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(
            f"{url}/chat/completions", json=CAPITAL | changes, headers={"authorization": f"Bearer {key}"}
        )


async def test_it_answers_a_chat_whole_and_streamed(engine: LocalEngine) -> None:
    assert engine.available and engine.process_id is None, "nothing runs before the first use"
    whole = await _chat(engine)
    assert whole.status_code == 200
    body = whole.json()
    assert "New Delhi" in body["choices"][0]["message"]["content"]
    assert body["model"] == "smollm2-135m"
    assert body["usage"]["completion_tokens"] > 0

    streamed = await _chat(engine, stream=True, stream_options={"include_usage": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = [line for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert len(events) > 5 and events[-1] == "data: [DONE]"
    assert any('"completion_tokens":' in event for event in events)


async def test_its_address_is_loopback_and_demands_its_key(engine: LocalEngine) -> None:
    url, key = await engine.address()
    assert url.startswith("http://127.0.0.1:") and url.endswith("/v1") and len(key) > 30
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"{url}/chat/completions", json=CAPITAL)
    assert answer.status_code == 401
    command, environment = _proc(engine.process_id, "cmdline"), _proc(engine.process_id, "environ")
    assert key not in command and key not in environment
    assert environment == "OMP_NUM_THREADS=1\0", "none of the server's secrets reach the engine"


async def test_many_first_uses_at_once_start_one_engine(engine: LocalEngine) -> None:
    addresses = await asyncio.gather(*(engine.address() for _ in range(20)))
    assert len(set(addresses)) == 1
    assert len(_children()) == 1


async def test_a_caller_that_gives_up_while_it_starts_takes_it_from_nobody(engine: LocalEngine) -> None:
    first, second = asyncio.create_task(engine.address()), asyncio.create_task(engine.address())
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second)[0].startswith("http://127.0.0.1:")


async def test_it_starts_again_after_a_crash_with_growing_waits(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local_engine, "WAITS", (0.0, 0.4, 30.0))
    old = await engine.address()
    await _crash(engine)
    assert await engine.address() != old
    assert (await _chat(engine)).status_code == 200

    await _crash(engine)
    started = time.monotonic()
    await engine.address()
    assert time.monotonic() - started > 0.4

    await _crash(engine)
    with pytest.raises(ApiError) as refusal:
        await engine.address()
    assert refusal.value.status == 503
    assert 28 <= int(refusal.value.headers["Retry-After"]) <= 30
    assert caplog.text.count("the local engine died") == 3


async def test_weights_that_cannot_be_loaded_are_a_503_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(data_dir=tmp_path, vendors={})
    path = tmp_path / "models" / "smollm2-135m-instruct-q4_1.gguf"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(98_362_432)
    engine = LocalEngine(settings)
    with pytest.raises(ApiError) as refusal:
        await engine.address()
    assert refusal.value.status == 503 and str(tmp_path) not in refusal.value.message
    record = next(one for one in caplog.records if one.message == "the local engine did not start")
    assert 0 < len(record.said) <= 5 and sum(map(len, record.said)) <= 4096
    assert not _children()
    await engine.close()


async def test_it_stops_when_idle_and_starts_again_on_use(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, request_deadline=0.4, vendors={})
    lend_weights(settings)
    engine = LocalEngine(settings, idle_seconds=0.1)
    try:
        await engine.address()
        used, pid = time.monotonic(), engine.process_id
        await _until(lambda: not _is_alive(pid))
        assert time.monotonic() - used > 0.4, "a request that just began may still run"
        assert engine.process_id is None
        assert (await engine.address())[0].startswith("http://127.0.0.1:")
    finally:
        await engine.close()


async def test_closing_ends_it(engine: LocalEngine) -> None:
    await engine.address()
    pid = engine.process_id
    await engine.close()
    assert not _is_alive(pid)
    await engine.close()


async def test_closing_while_it_starts_leaves_nothing_behind(engine: LocalEngine) -> None:
    starting = asyncio.create_task(engine.address())
    await _until(_children)
    await engine.close()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not _children()


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    lend_weights(load_settings(data_dir=tmp_path))
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import asyncio, pathlib, sys
                from api.providers.local_engine import LocalEngine
                from api.settings import load_settings

                async def main():
                    engine = LocalEngine(load_settings(data_dir=pathlib.Path(sys.argv[1])))
                    await engine.address()
                    print(engine.process_id, flush=True)
                    await asyncio.sleep(60)

                asyncio.run(main())
                """
            ),
            str(tmp_path),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert _is_alive(pid)
        parent.kill()
    deadline = time.monotonic() + 5
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"local": False}, "turned off"),
        ({}, "Run `python -m api models pull`"),
    ],
)
async def test_what_is_missing_is_said_with_the_command_that_mends_it(
    tmp_path: Path, changes: dict[str, bool], sentence: str
) -> None:
    engine = LocalEngine(load_settings(data_dir=tmp_path, **changes))
    assert engine.available is False
    assert sentence in engine.problem
    with pytest.raises(ApiError) as refusal:
        await engine.address()
    assert refusal.value.status == 503 and sentence in refusal.value.message


async def test_without_the_engines_package_it_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend_weights(settings)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.delitem(sys.modules, "xllamacpp")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    engine = LocalEngine(settings)
    assert "requirements-local.txt" in engine.problem


async def test_weights_that_arrive_later_are_noticed(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    engine = LocalEngine(settings)
    assert engine.available is False
    lend_weights(settings)
    assert engine.available is True


async def _crash(engine: LocalEngine) -> None:
    os.kill(engine.process_id, signal.SIGSEGV)
    await _until(lambda: engine.process_id is None)
    await asyncio.sleep(0.05)


async def _until(true: Callable[[], object]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not come true in five seconds")


def _proc(pid: int | None, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _children() -> list[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split() if _is_engine(pid)]


def _is_engine(pid: str) -> bool:
    return b"api.providers.local_server" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _is_alive(pid: int | None) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
