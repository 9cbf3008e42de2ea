import asyncio
import stat
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.errors import ApiError
from api.settings import Settings, load_settings
from api.tenants import passwords
from api.tenants.passwords import hash_password, verify_password
from api.tenants.secrets import derive, load_secret


def load_from(folder: Path) -> bytes:
    return load_secret(load_settings(data_dir=folder, secret_key=None))


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        found = set(pool.map(load_from, [tmp_path / "data"] * 8))
    assert len(found) == 1
    path = tmp_path / "data" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]
    assert len(found.pop()) == 64


def test_a_secret_file_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    first = load_from(tmp_path)
    (tmp_path / "secret.key").chmod(0o644)
    assert load_from(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_the_setting_wins_over_the_file_and_both_hold_the_same_text(settings: Settings) -> None:
    from_file = load_secret(settings)
    text = (settings.data_dir / "secret.key").read_text()
    assert load_secret(settings.model_copy(update={"secret_key": SecretStr(text)})) == from_file
    other = settings.model_copy(update={"secret_key": SecretStr("x" * 32)})
    assert load_secret(other) == b"x" * 32


def test_a_short_secret_is_refused_without_repeating_it(settings: Settings) -> None:
    with pytest.raises(ValueError, match="CALLMISSED_SECRET_KEY") as refused:
        load_secret(settings.model_copy(update={"secret_key": SecretStr("hunter2")}))
    assert "hunter2" not in str(refused.value)


def test_each_purpose_has_a_key_of_its_own() -> None:
    secret = b"k" * 32
    keys = {derive(secret, purpose) for purpose in (b"api-keys", b"access-tokens", b"email-codes")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)
    assert derive(b"j" * 32, b"api-keys") not in keys


async def test_passwords_are_argon2id_of_the_stated_cost_and_salted() -> None:
    first, second = await hash_password("correct horse"), await hash_password("correct horse")
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert await verify_password("correct horse", first) is True
    assert await verify_password("correct horsf", first) is False
    assert await verify_password("", first) is False


async def test_a_missing_hash_is_never_right_and_takes_the_same_time() -> None:
    known = await hash_password("correct horse")
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(15):
        for name, hashed in (("known", known), ("unknown", None)):
            started = time.process_time()
            assert await verify_password("wrong", hashed) is False
            times[name].append(time.process_time() - started)
    slow, fast = sorted(statistics.median(taken) for taken in times.values())[::-1]
    assert slow - fast < 0.25 * slow


async def test_checking_passwords_leaves_the_loop_free() -> None:
    known = await hash_password("correct horse")
    work = asyncio.gather(*(verify_password("wrong", known) for _ in range(20)))
    lags = []
    while not work.done():
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - started)
    await work
    assert statistics.median(lags) < 0.02
    assert len(lags) > 20


async def test_more_checks_than_may_wait_are_refused_at_once() -> None:
    known = await hash_password("correct horse")
    most = passwords.THREADS + passwords.LONGEST_QUEUE
    results = await asyncio.gather(
        *(verify_password("wrong", known) for _ in range(most + 10)), return_exceptions=True
    )
    assert results.count(False) == most
    refused = [result for result in results if isinstance(result, ApiError)]
    assert [(error.status, error.headers["Retry-After"]) for error in refused] == [(503, "2")] * 10
    assert await verify_password("correct horse", known) is True
