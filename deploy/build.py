"""Builds the dashboard's bundle into `.web/build/client`, only when something it is made from has changed.

`python3 deploy/build.py`. Standard library only; Reflex runs as a program of `.venv`.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from setup import digest, environment
from steps import ROOT, TOOLS, VENV_PYTHON, Stop, main, one_at_a_time, run, step

BUNDLE = ROOT / ".web" / "build" / "client"

# Reflex empties `.web/build` when it starts to build: a build that was cut off leaves no stamp.
STAMP = ROOT / ".web" / "build" / "made-from"

SOURCES = ("rxconfig.py", "requirements.txt", "deploy/bun/package-lock.json")
SOURCE_FOLDERS = ("callmissed_app", "assets", "reflex.lock")

# Names no machine. callmissed_app/bundle.py puts the visitor's own address in its place.
PLACEHOLDER = "http://callmissed.invalid"


def build() -> None:
    """The bundle on disk is the one that the sources make. Raises `Stop` when the build fails."""
    with one_at_a_time("build"):
        if STAMP.exists() and STAMP.read_text() == made_from() and BUNDLE.is_dir():
            return
        if not VENV_PYTHON.exists():
            raise Stop("The packages are not installed yet: run python3 deploy/setup.py first.")
        STAMP.unlink(missing_ok=True)
        with step("Building the dashboard"):
            run(
                [VENV_PYTHON, "-m", "reflex", "export", "--frontend-only", "--no-zip"],
                what="Building the dashboard",
                env=reflex_environment(PLACEHOLDER),
            )
        _tidy_manifest()
        # Taken again: Reflex may have added a package to reflex.lock.
        STAMP.write_text(made_from())


def made_from() -> str:
    """The fingerprint of everything the bundle is made from."""
    paths = [ROOT / name for name in SOURCES]
    for folder in SOURCE_FOLDERS:
        paths += [path for path in (ROOT / folder).rglob("*") if _is_source(path)]
    return digest(*sorted(paths))


def reflex_environment(api_address: str) -> dict[str, str]:
    """The environment Reflex's programs run in: nothing is reported or looked up anywhere."""
    env = {
        **environment(),
        "REFLEX_API_URL": api_address,
        "REFLEX_TELEMETRY_ENABLED": "false",
        "REFLEX_CHECK_LATEST_VERSION": "false",
        "REFLEX_DIR": str(TOOLS / "reflex"),
        "NO_COLOR": "1",
    }
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _npm_registry()
    return {**env, "NPM_CONFIG_REGISTRY": registry} if registry else env


def _is_source(path: Path) -> bool:
    ignored = {"__pycache__", "external"}
    return path.is_file() and path.suffix != ".pyc" and not ignored & set(path.relative_to(ROOT).parts)


def _tidy_manifest() -> None:
    """Reflex writes its package.json on one line or many, as it happens; the committed file has one form."""
    path = ROOT / "reflex.lock" / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2, sort_keys=True) + "\n")


def _npm_registry() -> str:
    if shutil.which("npm") is None:
        return ""
    return subprocess.run(
        ["npm", "config", "get", "registry"], capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    main(build)
