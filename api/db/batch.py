"""What may go wrong with a batch, and the encoding both databases share."""

from typing import Any

import msgspec


class DatabaseGone(RuntimeError):
    """Nobody knows whether the batch was committed; sending it again is safe."""


class BatchRefused(RuntimeError):
    """The database took nothing of the batch because of something in it."""


_encoder = msgspec.json.Encoder(uuid_format="hex")


def encode(value: Any) -> str:
    """`value` as JSON that both databases store: no NUL, no lone surrogate; those become U+FFFD."""
    try:
        encoded = _encoder.encode(value)
    except UnicodeEncodeError:
        encoded = _encoder.encode(_cleaned(value))
    if b"\\u0000" in encoded:
        encoded = _encoder.encode(_cleaned(value))
    return encoded.decode()


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {key: _cleaned(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(part) for part in value]
    return value
