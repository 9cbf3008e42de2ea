"""A clone's bare files in a folder of their own, and commands run in it as a newcomer would run them."""

import hashlib
import os
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make_tree(folder: Path, *, requirement: str = "") -> Path:
    """The files that `make run` starts from; the packages to install are `requirement` alone."""
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "requirements-local.txt", "requirements-dev.txt"):
        (folder / name).write_text(requirement if name == "requirements.txt" else "")
    return folder


def make_wheel(folder: Path, *, version: str = "1.0") -> str:
    """A real wheel of a package `tinything`; returns its line for a requirements file, with its hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"tinything-{version}-py3-none-any.whl"
    about = f"tinything-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinything.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tinything\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"tinything.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n")
    return f"tinything=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def run(tree: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the tree; no index is reachable unless `env` names one."""
    whole: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "HOME": str(tree / "home"),
        "PORT": str(free_port()),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9/",
        "npm_config_fetch_retries": "0",
        **env,
    }
    return subprocess.run(
        command, cwd=tree, env=whole, capture_output=True, text=True, timeout=60, check=False
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command told the person: checked to be one line beside the steps, and no trace."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("make: ")]
    assert len(said) == 1, done.stderr
    return said[0]


def programs(folder: Path, *names: str) -> str:
    """A PATH with these programs of this machine and no others."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(Path(shutil.which(name) or name).resolve())
    return str(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
