"""One built bundle works at every address it is served at: another port, another name, https."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

from api.db.migrate import migrate
from api.settings import load_settings
from tests.deploy.trees import ROOT, free_port

pytestmark = pytest.mark.browser

NAME = "dashboard.example"
FIRST_LOAD_BYTES = 1_500_000


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Three servers of one build, started as an operator would, each at an address of its own kind."""
    built = subprocess.run(
        ["python3", "deploy/build.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    data = tmp_path_factory.mktemp("data")
    migrate(load_settings(data_dir=data, database_url=None))
    one, two, tls = free_port(), free_port(), free_port()
    with ExitStack() as servers:
        servers.enter_context(server(data, one))
        servers.enter_context(server(data, two))
        servers.enter_context(server(data, tls, public_url=f"https://{NAME}:{tls}"))
        yield {
            "a port": f"http://127.0.0.1:{one}",
            "another port and name": f"http://localhost:{two}",
            "https and a domain": f"https://{NAME}:{tls}",
        }


@contextmanager
def server(data: Path, port: int, *, public_url: str | None = None) -> Iterator[None]:
    env = {**os.environ, "CALLMISSED_DATA_DIR": str(data), "LOCAL": "0", "PORT": str(port)}
    command = [sys.executable, "-m", "callmissed_app"]
    if public_url:
        key, certificate = make_certificate(data)
        env["CALLMISSED_PUBLIC_URL"] = public_url
        command = [sys.executable, "-m", "uvicorn", "--factory", "callmissed_app.server:application"]
        command += ["--port", str(port), "--ssl-keyfile", str(key), "--ssl-certfile", str(certificate)]
    log = data / f"server-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        wait_until_open(port, process, log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    pytest.fail(f"the server did not open port {port}:\n{log.read_text()}")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(pem))
    return folder / "key.pem", folder / "certificate.pem"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=[*flags, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(ignore_https_errors=True)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("kind", ["a port", "another port and name", "https and a domain"])
def test_the_page_talks_to_the_address_it_was_loaded_from(
    addresses: dict[str, str], page: Page, kind: str
) -> None:
    origin = addresses[kind]
    answered: list[str] = []
    errors: list[str] = []
    requests: list[tuple[str, int]] = []

    def watch(events: WebSocket) -> None:
        events.on("framereceived", lambda _: answered.append(events.url))

    page.on("websocket", watch)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "requestfinished", lambda request: requests.append((request.url, request.sizes()["responseBodySize"]))
    )
    page.goto(origin, wait_until="networkidle")
    deadline = time.monotonic() + 10
    while not answered and time.monotonic() < deadline:
        page.wait_for_timeout(50)

    assert answered, "nothing came over the event socket"
    assert {url.split("/_event")[0] for url in answered} == {origin.replace("http", "ws", 1)}
    assert [url for url, _ in requests if not url.startswith((origin, "data:", "blob:"))] == []
    assert errors == []
    assert sum(size for _, size in requests) <= FIRST_LOAD_BYTES
