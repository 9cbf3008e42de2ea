"""`doctor`: what is configured, what is missing, and what to do about it. Changes nothing."""

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import typer

from api.cli.sentences import Refusal, plainly, settings
from api.settings import Settings

CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `broken`: the server cannot work so; `missing`: something is left out."""

    name: str
    state: Literal["ok", "missing", "broken"]
    text: str


def doctor() -> None:
    """Say what is configured, what is missing and what to do; exits 1 when the server could not work."""
    with plainly():
        findings = list(examine(settings()))
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:8}{finding.name:{width}}  {finding.text}")
        if any(finding.state == "broken" for finding in findings):
            raise typer.Exit(1)


def examine(configured: Settings) -> Iterator[Finding]:
    """Every finding, in the order in which things are needed."""
    yield Finding("python", "ok", sys.version.split()[0])
    yield _data_folder(configured)
    yield _secret(configured)
    yield _database(configured)
    yield _workers(configured)
    yield _redis(configured)
    yield _catalog(configured)
    yield from _local_engine(configured)
    yield from _vendors(configured)
    yield _mail(configured)


def _data_folder(configured: Settings) -> Finding:
    folder = configured.data_dir.resolve()
    if not folder.exists():
        return Finding("data folder", "ok", f"{folder} is made at the first start")
    if not folder.is_dir():
        return Finding("data folder", "broken", f"{folder} is not a folder")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return Finding("data folder", "broken", f"others may look into it: run `chmod 700 {folder}`")
    if mode & 0o700 != 0o700:
        return Finding("data folder", "broken", f"it may not be written: run `chmod 700 {folder}`")
    return Finding("data folder", "ok", str(folder))


def _secret(configured: Settings) -> Finding:
    from api.tenants.secrets import load_secret

    file = configured.data_dir / "secret.key"
    if configured.secret_key is None and not file.exists():
        return Finding("secret key", "ok", f"{file.resolve()} is made at the first start")
    if configured.secret_key is None and stat.S_IMODE(file.stat().st_mode) & 0o077:
        return Finding("secret key", "broken", f"others may read it: run `chmod 600 {file.resolve()}`")
    try:
        load_secret(configured)
    except ValueError as error:
        return Finding("secret key", "broken", str(error))
    except OSError as error:
        return Finding("secret key", "broken", f"{file.resolve()}: {error.strerror}")
    where = "CALLMISSED_SECRET_KEY" if configured.secret_key is not None else str(file.resolve())
    return Finding("secret key", "ok", where)


def _database(configured: Settings) -> Finding:
    from api.cli.database import place, require_migrated

    try:
        require_migrated(configured)
    except Refusal as refusal:
        return Finding("database", "broken", str(refusal))
    return Finding("database", "ok", place(configured))


def _workers(configured: Settings) -> Finding:
    from api.cli.server import require_shared_state

    try:
        require_shared_state(configured, configured.workers)
    except Refusal as refusal:
        return Finding("workers", "broken", str(refusal))
    return Finding("workers", "ok", str(configured.workers))


def _redis(configured: Settings) -> Finding:
    if configured.redis_url is None:
        return Finding("redis", "ok", "not set: limits are counted in memory, for one worker")
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(
            configured.redis_url.get_secret_value(),
            socket_timeout=CONNECT_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
        ) as client:
            version = str(client.info("server")["redis_version"])
    except ValueError:
        return Finding("redis", "broken", "CALLMISSED_REDIS_URL must look like redis://host:6379")
    except RedisError as error:
        return Finding("redis", "broken", f"the server at CALLMISSED_REDIS_URL: {type(error).__name__}")
    return Finding("redis", "ok", f"speaks version {version}")


def _catalog(configured: Settings) -> Finding:
    from api.catalog.catalog import load_catalog

    try:
        catalog = load_catalog(configured)
    except ValueError as error:
        return Finding("catalog", "broken", str(error))
    return Finding("catalog", "ok", f"{len(catalog.models)} models have a price")


def _local_engine(configured: Settings) -> Iterator[Finding]:
    from api.providers.weights import is_proved, load_weights

    if not configured.local:
        yield Finding("local engine", "ok", "turned off by LOCAL=0")
        return
    # In a process of its own: on a processor it was not built for, the engine takes its process down.
    tried = subprocess.run(
        [sys.executable, "-c", "import xllamacpp"], capture_output=True, timeout=60, check=False
    )
    if tried.returncode:
        yield Finding("local engine", "missing", "run `pip install -r requirements-local.txt`")
    else:
        yield Finding("local engine", "ok", "xllamacpp")
    for weights in load_weights().values():
        if is_proved(configured, weights):
            yield Finding("local weights", "ok", weights.title)
        else:
            yield Finding("local weights", "missing", f"{weights.title}: run `python -m api models pull`")


def _vendors(configured: Settings) -> Iterator[Finding]:
    from api.providers.registry import VENDORS

    for vendor in VENDORS.values():
        if vendor.name == "local":
            continue
        key, address = configured.vendor_key(vendor.name), configured.vendor_base_url(vendor.name)
        if key or address:
            has = f"{'with' if key else 'without'} a key"
            yield Finding(vendor.name, "ok", f"{address} {has}" if address else has)
        else:
            yield Finding(vendor.name, "missing", f"set {vendor.setting} to reach {vendor.title}")


def _mail(configured: Settings) -> Finding:
    if configured.smtp_url is None:
        folder = configured.data_dir.resolve() / "mail"
        return Finding("mail", "ok", f"CALLMISSED_SMTP_URL is not set: mail is written to {folder}")
    from api.notify.mail import parse_smtp_url

    try:
        server = parse_smtp_url(configured.smtp_url.get_secret_value())
        socket.create_connection((server.hostname, server.port), timeout=CONNECT_SECONDS).close()
    except ValueError as error:
        return Finding("mail", "broken", str(error))
    except OSError as error:
        reason = error.strerror or "no answer"
        return Finding("mail", "broken", f"{server.hostname}:{server.port} cannot be reached: {reason}")
    return Finding("mail", "ok", f"by {server.hostname}:{server.port}")
