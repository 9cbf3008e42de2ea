"""Setting up installs exactly what is pinned, once, and says why it could not."""

import shutil
import time
from pathlib import Path

import pytest

from tests.deploy.trees import ROOT, make_tree, make_wheel, run, sentence


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """Set up once, with one package from `wheels`; bun is the one this clone already has."""
    if not (ROOT / ".tools" / "bin" / ".made-from").exists():
        pytest.fail("run python3 deploy/setup.py first")
    tree = make_tree(tmp_path_factory.mktemp("trees") / "clone", requirement=make_wheel(wheels))
    (tree / ".tools").mkdir()
    (tree / ".tools" / "bin").symlink_to(ROOT / ".tools" / "bin")
    done = run(tree, "python3", "deploy/setup.py", PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    assert [line.split(" …")[0] for line in done.stdout.splitlines()] == [
        "  Making the virtual environment",
        "  Installing Python packages (requirements.txt)",
    ]
    return tree


def installed_version(tree: Path) -> str:
    return run(tree, ".venv/bin/python", "-c", "import tinything; print(tinything.VERSION)").stdout.strip()


def test_the_pinned_package_is_there(tree: Path) -> None:
    assert installed_version(tree) == "1.0"


def test_a_second_run_does_nothing_and_needs_no_network(tree: Path) -> None:
    started = time.monotonic()
    done = run(tree, "python3", "deploy/setup.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 2


def test_a_changed_pin_is_installed(tree: Path, wheels: Path) -> None:
    (tree / "requirements.txt").write_text(make_wheel(wheels, version="2.0"))
    done = run(tree, "python3", "deploy/setup.py", PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    assert installed_version(tree) == "2.0"


def test_a_package_with_other_content_is_refused(tree: Path, wheels: Path) -> None:
    make_wheel(wheels, version="3.0")
    (tree / "requirements.txt").write_text("tinything==3.0 --hash=sha256:" + "0" * 64 + "\n")
    done = run(tree, "python3", "deploy/setup.py", PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert "failed: a downloaded package is not the one that was pinned." in sentence(done)
    assert installed_version(tree) != "3.0"


def test_a_package_that_does_not_exist_for_this_system_is_named(tree: Path, wheels: Path) -> None:
    (tree / "requirements.txt").write_text("otherthing==1.0 --hash=sha256:" + "0" * 64 + "\n")
    done = run(tree, "python3", "deploy/setup.py", PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert "there is no ready-made package of otherthing==1.0 for this system and Python." in sentence(done)


def test_no_network_is_said_for_python_packages(tree: Path) -> None:
    (tree / "requirements.txt").write_text("anything==1.0 --hash=sha256:" + "0" * 64 + "\n")
    said = sentence(run(tree, "python3", "deploy/setup.py"))
    assert "failed: the package registry could not be reached; check the network" in said
    assert str(tree / ".tools" / "log") in said


def test_no_network_is_said_for_bun(tree: Path, wheels: Path) -> None:
    (tree / "requirements.txt").write_text(make_wheel(wheels))
    kept = tree / ".tools" / "bin"
    kept.rename(tree / ".tools" / "kept")
    try:
        done = run(tree, "python3", "deploy/setup.py", PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
        assert "Fetching bun failed: the package registry could not be reached" in sentence(done)
        assert not kept.exists()
    finally:
        (tree / ".tools" / "kept").rename(kept)


def test_a_virtual_environment_that_is_broken_is_made_anew(tree: Path, wheels: Path) -> None:
    (tree / "requirements.txt").write_text(make_wheel(wheels))
    shutil.rmtree(tree / ".venv")
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    done = run(tree, "python3", "deploy/setup.py", PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    assert installed_version(tree) == "1.0"


def test_a_failed_build_is_said_with_its_reason(tree: Path) -> None:
    for name in ("callmissed_app", "assets", "reflex.lock"):
        (tree / name).mkdir(exist_ok=True)
    (tree / "rxconfig.py").touch()
    assert "Building the dashboard failed: " in sentence(run(tree, "python3", "deploy/build.py"))
