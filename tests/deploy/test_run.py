"""`make run` says what is missing in one sentence, before any long work, and its status is not 0."""

import shutil
import socket
import sys
from pathlib import Path

import pytest

from tests.deploy.trees import make_tree, programs, run, sentence

BASICS = ("make", "sh", "env", "uname")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "clone")


@pytest.fixture
def python(tmp_path: Path) -> str:
    """The interpreter beneath the virtual environment the tests run in."""
    return str(Path(sys.executable).resolve())


def test_an_old_python_is_named_with_its_version(tree: Path, python: str) -> None:
    old = tree / "python3.9"
    pretend = (
        "import sys; sys.version_info = (3, 9, 2, 'final', 0); sys.version = '3.9.2 (old)'; exec(sys.argv[1])"
    )
    old.write_text(f'#!/bin/sh\nexec {python} -c "{pretend}" "$2"\n')
    old.chmod(0o755)
    said = sentence(run(tree, "make", "run", f"PYTHON={old}"))
    assert said == f"Python 3.11 or newer is needed, and {old} is 3.9.2: make run PYTHON=python3.12"


def test_no_python_at_all_is_said(tree: Path, tmp_path: Path) -> None:
    done = run(tree, "make", "run", PATH=programs(tmp_path / "bin", *BASICS))
    assert sentence(done) == "python3 was not found: Python 3.11 or newer is needed."


def test_a_missing_node_is_said_before_anything_is_made(tree: Path, tmp_path: Path, python: str) -> None:
    done = run(tree, "make", "run", f"PYTHON={python}", PATH=programs(tmp_path / "bin", *BASICS))
    assert sentence(done).startswith("node was not found: building the dashboard needs Node.js 18")
    assert not (tree / ".venv").exists()


def test_a_missing_npm_is_said(tree: Path, tmp_path: Path, python: str) -> None:
    done = run(tree, "make", "run", f"PYTHON={python}", PATH=programs(tmp_path / "bin", *BASICS, "node"))
    assert sentence(done).startswith("npm was not found")


def test_an_old_node_is_said(tree: Path, tmp_path: Path, python: str) -> None:
    path = programs(tmp_path / "bin", *BASICS, "npm")
    node = tmp_path / "bin" / "node"
    node.write_text("#!/bin/sh\necho v12.22.12\n")
    node.chmod(0o755)
    done = run(tree, "make", "run", f"PYTHON={python}", PATH=path)
    assert (
        sentence(done)
        == "Building the dashboard needs Node.js 18 or newer; `node --version` says 'v12.22.12'."
    )


@pytest.mark.parametrize("listening_on", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_said_before_anything_is_made(tree: Path, listening_on: str) -> None:
    with socket.create_server((listening_on, 0)) as other:
        port = other.getsockname()[1]
        said = sentence(run(tree, "make", "run", PORT=str(port)))
    assert said == (
        f"Port {port} of 127.0.0.1 is taken by another program: stop it, or try PORT=9000 make run."
    )
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("port", ["http", "70000", "-1", "80a"])
def test_a_port_that_is_none_is_said(tree: Path, port: str) -> None:
    assert (
        sentence(run(tree, "make", "run", PORT=port))
        == f"PORT is {port!r}; it must be a number from 0 to 65535."
    )


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_said(tree: Path, host: str) -> None:
    assert (
        sentence(run(tree, "make", "run", HOST=host))
        == f"HOST is {host!r}, which is no address of this machine."
    )


def test_a_disk_without_room_is_said(tree: Path) -> None:
    setup = tree / "deploy" / "setup.py"
    more_than_free = shutil.disk_usage(tree).free + 10**12
    setup.write_text(
        setup.read_text().replace("NEEDED_BYTES = 2_000_000_000", f"NEEDED_BYTES = {more_than_free}")
    )
    assert sentence(run(tree, "make", "run")).startswith("The disk is nearly full: ")
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
        ),
        ("npm error code ENOSPC\nnpm error nospc", "disk is full"),
        ("error: ConnectionRefused downloading package manifest react", "registry could not be reached"),
        (
            "npm error code EINTEGRITY\nnpm error sha512-x integrity checksum failed",
            "not the one that was pinned",
        ),
        (
            "The virtual environment was not created successfully because ensurepip is not available",
            "python3-venv",
        ),
        ("Compiling\n\nNameError: name 'rx' is not defined\n", "NameError: name 'rx' is not defined"),
        ("", "it said nothing"),
    ],
)
def test_the_reason_is_found_in_what_a_program_said(tree: Path, output: str, said: str) -> None:
    done = run(
        tree / "deploy", "python3", "-c", "import sys, steps; print(steps.reason(sys.argv[1]))", output
    )
    assert said in done.stdout
