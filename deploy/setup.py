"""Makes the Python environment and the tools of this clone; what is done is not done again.

Afterwards `.venv` holds the pinned packages and `.tools/bin` the pinned JavaScript runtime.
`python3 deploy/setup.py [--local] [--dev] [--tests]`; standard library only.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from steps import ROOT, TOOLS, VENV, VENV_PYTHON, Stop, main, one_at_a_time, run, step

BUN_MANIFEST = ROOT / "deploy" / "bun"
BIN = TOOLS / "bin"
TEST_MANIFEST = ROOT / "tests" / "npm"
NEEDED_BYTES = 2_000_000_000


def set_up(*, local: bool, dev: bool = False) -> None:
    """`.venv` has the packages (with local engines, with developers' tools) and `.tools/bin/bun` runs.

    Raises `Stop` before any long work when something the machine must bring is missing.
    """
    files = ["requirements.txt"]
    files += ["requirements-local.txt"] if local else []
    files += ["requirements-dev.txt"] if dev else []
    with one_at_a_time("setup"):
        if not _has_bun():
            _require_node()
        if not (VENV / ".made").exists():
            _require_disk()
            _make_venv()
        for name in files:
            _install(ROOT / name)
        _install_bun()


def set_up_tests() -> None:
    """What only the tests need is there: Chromium and the npm packages of `tests/npm`."""
    with one_at_a_time("setup"):
        if shutil.which("chromium") is None:
            _install_chromium()
        if (TEST_MANIFEST / "package-lock.json").exists():
            _install_test_packages()


def environment() -> dict[str, str]:
    """The environment for programs that must find the pinned tools first."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def digest(*paths: Path) -> str:
    """A fingerprint of these files' names and contents."""
    whole = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        whole.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def _is_done(stamp: Path, inputs: str) -> bool:
    return stamp.exists() and stamp.read_text() == inputs


def _require_disk() -> None:
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        raise Stop(
            f"The disk is nearly full: {free / 1e9:.1f} GB are free in {ROOT}, and the packages need "
            f"{NEEDED_BYTES / 1e9:.0f} GB."
        )


def _require_node() -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Stop(
                f"{program} was not found: building the dashboard needs Node.js 18 or newer with npm "
                "(Debian: apt-get install nodejs npm)."
            )
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < 18:
        raise Stop(
            f"Building the dashboard needs Node.js 18 or newer; `node --version` says {said.strip()!r}."
        )


def _make_venv() -> None:
    """A folder that is already there and works is kept, whoever made it."""
    if not _runs(VENV_PYTHON, "-m", "pip"):
        with step("Making the virtual environment"):
            run([sys.executable, "-m", "venv", "--clear", VENV], what="Making the virtual environment")
    (VENV / ".made").touch()


def _install(requirements: Path) -> None:
    stamp = VENV / f".installed-{requirements.stem}"
    inputs = digest(requirements)
    if _is_done(stamp, inputs):
        return
    stamp.unlink(missing_ok=True)
    with step(f"Installing Python packages ({requirements.name})"):
        run(
            [
                *(VENV_PYTHON, "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:"),
                *("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--retries", "2"),
                *("-r", requirements),
            ],
            what=f"Installing Python packages ({requirements.name})",
        )
    stamp.write_text(inputs)


def _bun_inputs() -> str:
    pinned = digest(BUN_MANIFEST / "package.json", BUN_MANIFEST / "package-lock.json")
    return f"{pinned} {platform.system()} {platform.machine()}"


def _has_bun() -> bool:
    return _is_done(BIN / ".made-from", _bun_inputs()) and (BIN / "bun").exists()


def _install_bun() -> None:
    """npm fetches and checks the package; its install script is not run, its program is linked instead."""
    if _has_bun():
        return
    shutil.rmtree(BIN, ignore_errors=True)
    folder = TOOLS / "bun"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(BUN_MANIFEST, folder)
    with step("Fetching bun, which builds the dashboard"):
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], what="Fetching bun", cwd=folder)
        programs = sorted(folder.glob("node_modules/@oven/*/bin/bun"))
        working = [program for program in programs if _runs(program)]
        if not working:
            raise Stop(f"bun has no program that runs on this machine ({platform.platform()}).")
        BIN.mkdir(parents=True)
        # Relative: the clone may be moved.
        (BIN / "bun").symlink_to(os.path.relpath(working[0], BIN))
    (BIN / ".made-from").write_text(_bun_inputs())


def _runs(*command: str | Path) -> bool:
    try:
        return subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _install_chromium() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Stop(
            "The browser tests need Chromium, which was not found (Debian: sudo apt-get install chromium)."
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with step("Installing Chromium"):
        run(["apt-get", "update"], what="Reading Debian's package lists", env=env)
        install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
        run(install, what="Installing Chromium", env=env)


def _install_test_packages() -> None:
    stamp = TEST_MANIFEST / "node_modules" / ".made-from"
    inputs = digest(TEST_MANIFEST / "package.json", TEST_MANIFEST / "package-lock.json")
    if _is_done(stamp, inputs):
        return
    _require_node()
    with step("Installing npm packages for the tests"):
        run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            what="Installing npm packages for the tests",
            cwd=TEST_MANIFEST,
        )
    stamp.write_text(inputs)


def _command() -> None:
    asked = set(sys.argv[1:])
    unknown = asked - {"--local", "--dev", "--tests"}
    if unknown:
        raise Stop(f"Unknown option {sorted(unknown)[0]}; known: --local --dev --tests.")
    set_up(local="--local" in asked, dev="--dev" in asked)
    if "--tests" in asked:
        set_up_tests()


if __name__ == "__main__":
    main(_command)
