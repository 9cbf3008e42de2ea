"""What keeps the code readable in one sitting, and the repository free of what it must not name."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = {"api": 300, "callmissed_app": 200, "tests": 400}
FUNCTION_LINES = 60
VAGUE = {"utils", "helpers", "common", "manager", "misc"}


def tracked(pattern: str = "") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *([pattern] if pattern else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_is_longer_than_its_room_allows() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("*.py")
        if (lines := path.read_text().count("\n")) > LINES.get(path.relative_to(ROOT).parts[0], 500)
    }
    assert long == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = []
    for path in tracked("*.py"):
        if path.relative_to(ROOT).parts[0] not in ("api", "callmissed_app", "deploy"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                # A function that only holds others is as long as they are together.
                nested = any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in node.body)
                if node.end_lineno - node.lineno >= FUNCTION_LINES and not nested:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert long == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [path for path in tracked("*.py") if path.stem in VAGUE] == []


def test_no_file_names_a_package_registry() -> None:
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("npmjs", "org"), ("pythonhosted", "org"))]
    named = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked()
        for host in hosts
        if host.encode() in path.read_bytes()
    ]
    assert named == []
