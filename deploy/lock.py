"""`make lock`: pins every package, Python's and npm's, at its newest version that is at least a week old.

A week is time for a bad release to be noticed. Reflex's own lock (`reflex.lock`) follows with the next build.
"""

import os
import re
import shutil
from datetime import UTC, datetime, timedelta

from setup import BUN_MANIFEST
from steps import ROOT, VENV, Stop, main, run, step


def lock() -> None:
    """The requirements files and deploy/bun's lock are made anew from their manifests."""
    uv = shutil.which("uv", path=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if uv is None:
        raise Stop("uv was not found: it resolves the Python packages (.venv/bin/pip install uv).")
    before = (datetime.now(UTC) - timedelta(days=7)).strftime("%Y-%m-%dT00:00:00Z")
    python = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    if python is None:
        raise Stop("pyproject.toml does not say requires-python.")
    options = (
        f"--universal --python-version {python[1]} --generate-hashes --no-emit-index-url --no-header".split()
    )
    for group in (None, "local", "dev"):
        name = f"requirements-{group}.txt" if group else "requirements.txt"
        source = ["--group", group, "-c", "requirements.txt"] if group else ["pyproject.toml"]
        with step(f"Locking {name}"):
            run(
                [uv, "pip", "compile", *source, *options, "--upgrade", "--exclude-newer", before, "-o", name],
                what=f"Locking {name}",
            )
    with step("Locking deploy/bun"):
        env = {**os.environ, "NPM_CONFIG_OMIT_LOCKFILE_REGISTRY_RESOLVED": "true"}
        run(
            ["npm", "install", "--package-lock-only", "--ignore-scripts", "--before", before],
            what="Locking deploy/bun",
            cwd=BUN_MANIFEST,
            env=env,
        )


if __name__ == "__main__":
    main(lock)
