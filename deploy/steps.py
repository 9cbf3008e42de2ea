"""How a step of a set-up talks, runs programs and fails. Standard library only: no package is there yet."""

import fcntl
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
LOGS = TOOLS / "log"
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"

# The first pattern that is found in a failed program's output names the reason.
_REASONS = (
    (r"No space left on device|ENOSPC", "the disk is full"),
    (
        r"DO NOT MATCH THE HASHES|EINTEGRITY|[Ii]ntegrity check failed",
        "a downloaded package is not the one that was pinned",
    ),
    (
        r"name resolution|Name or service not known|nodename nor servname|NewConnectionError|ConnectTimeout"
        r"|Network is unreachable|Connection (?:refused|reset)|ConnectionRefused|Max retries exceeded"
        r"|ProxyError|ReadTimeout|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|FailedToOpenSocket"
        r"|ConnectionClosed|UNABLE_TO_GET_ISSUER_CERT|CERTIFICATE_VERIFY_FAILED",
        "the package registry could not be reached; check the network (and proxy) and run it again",
    ),
    (
        r"No matching distribution found for (\S+)",
        "there is no ready-made package of {0} for this system and Python",
    ),
    (
        r"ensurepip is not|No module named '?(?:venv|ensurepip)",
        "Python's venv module is missing (Debian: apt-get install python3-venv)",
    ),
    (r"Permission denied|EACCES|Read-only file system|EROFS", "a file may not be written"),
)


class Stop(Exception):
    """One sentence for the person who typed the command; nothing else is shown."""


def main(command: Callable[[], None]) -> None:
    """Runs `command`; a `Stop` or a full disk ends the process with one sentence and a status."""
    try:
        command()
    except Stop as stop:
        sys.exit(f"\n{stop}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"\nIt stopped because of the file system: {error.strerror or error}{where}.")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Shows one line: the title at once, the seconds it took when it is done."""
    print(f"  {title} …", end="", flush=True)
    started = time.monotonic()
    yield
    print(f" {time.monotonic() - started:.1f} s", flush=True)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Waits for any other process that is in the same place; the operating system lets go when it dies."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  waiting for another run to finish …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs a program with its output in a log file; raises `Stop` with the reason when it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / (re.sub(r"\W+", "-", what) + ".log")
    with log.open("w") as output:
        status = subprocess.call(
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if status != 0:
        text = log.read_text(errors="replace")
        raise Stop(f"{what} failed: {reason(text)}. All of its output: {log}")


def reason(output: str) -> str:
    """Why a program failed, in words, as far as its output tells; else its last line."""
    for pattern, words in _REASONS:
        found = re.search(pattern, output)
        if found:
            return words.format(*found.groups())
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"
