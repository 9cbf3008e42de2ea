"""What is committed about packages: everything pinned, nothing that names a registry."""

import json
import re
import tomllib

from reflex_base.constants.installer import Bun

from tests.deploy.trees import ROOT

REQUIREMENTS = ("requirements.txt", "requirements-local.txt", "requirements-dev.txt")


def test_every_python_package_is_pinned_with_hashes() -> None:
    for name in REQUIREMENTS:
        entries = re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text())
        for entry in entries:
            assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", entry), entry
            assert "--hash=sha256:" in entry, entry


def test_every_declared_package_is_in_its_lock() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        "requirements.txt": declared["project"]["dependencies"],
        "requirements-local.txt": declared["dependency-groups"]["local"],
        "requirements-dev.txt": declared["dependency-groups"]["dev"],
    }
    for name, packages in wanted.items():
        pinned = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE))
        for package in packages:
            assert re.split(r"[\[=<>~! ]", package)[0].lower().replace("_", "-") in pinned, (name, package)


def test_a_package_has_one_version_in_all_locks() -> None:
    versions: dict[str, set[str]] = {}
    for name in REQUIREMENTS:
        for package, version in re.findall(
            r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE
        ):
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_no_lock_names_a_registry() -> None:
    npm = list(ROOT.glob("tests/npm/package-lock.json"))
    for path in [
        *(ROOT / name for name in REQUIREMENTS),
        *(ROOT / "reflex.lock").iterdir(),
        ROOT / "deploy" / "bun" / "package-lock.json",
        *npm,
    ]:
        text = path.read_text()
        assert '"resolved"' not in text, path
        assert not re.search(r"(index-url|registry)\S*https?://", text), path
        hosts = set(re.findall(r"https?://([^/\s\"']+)", text))
        assert not {host for host in hosts if re.search(r"registry|pypi|pythonhosted|npm", host)}, path


def test_bun_is_the_version_reflex_asks_for() -> None:
    manifest = json.loads((ROOT / "deploy" / "bun" / "package.json").read_text())
    assert manifest["dependencies"] == {"bun": Bun.VERSION}


def test_every_javascript_package_of_the_dashboard_has_one_pinned_version() -> None:
    manifest = json.loads((ROOT / "reflex.lock" / "package.json").read_text())
    for version in {**manifest["dependencies"], **manifest["devDependencies"]}.values():
        assert re.fullmatch(r"v?\d+\.\d+\.\d+[\w.+-]*", version), version
