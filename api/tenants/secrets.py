"""The one secret of a deployment, and the keys derived from it for each purpose."""

import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.settings import Settings

_SHORTEST = 32


def load_secret(settings: Settings) -> bytes:
    """The secret of this deployment: `CALLMISSED_SECRET_KEY`, else `secret.key` in the data folder.

    The file is made on first use, readable by its owner only; processes that start together agree on one.
    Raises `ValueError` when the secret is shorter than 32 characters.
    """
    if settings.secret_key is not None:
        return _checked(settings.secret_key.get_secret_value(), "CALLMISSED_SECRET_KEY")
    path = settings.data_dir / "secret.key"
    if not path.exists():
        _make(path)
    path.chmod(0o600)
    return _checked(path.read_text(encoding="utf-8"), str(path))


@lru_cache(maxsize=64)
def derive(secret: bytes, purpose: bytes) -> bytes:
    """32 bytes for `purpose` alone (HKDF-SHA256); one purpose's key tells nothing about another's."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"callmissed:" + purpose).derive(secret)


def _make(path: Path) -> None:
    """Write a new secret beside `path` and link it in: the first process wins, nobody sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".secret.key.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)


def _checked(text: str, origin: str) -> bytes:
    value = text.strip().encode()
    if len(value) < _SHORTEST:
        raise ValueError(f"{origin} must have at least {_SHORTEST} characters of random text.")
    return value
