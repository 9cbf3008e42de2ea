"""A whole chat completion on its way to the caller: our id and model name, everything else as it came."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from api.types import TokenUsage
from api.wire.usage import parse_usage


class _Choice(Struct):
    finish_reason: str | None = None


class _Answer(Struct):
    choices: list[_Choice] = []
    usage: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


class Whole(msgspec.Struct, frozen=True):
    """A vendor's whole answer, ready to send."""

    body: bytes
    usage: TokenUsage | None
    finish_reason: str
    output_bytes: int
    """Size of the `choices`: what an estimate goes by when the vendor reports no usage."""


class NoAnswer(Exception):
    """The vendor's 200 holds no completion; `error` is its error object, if it sent one."""

    def __init__(self, error: Any = None) -> None:
        super().__init__()
        self.error = error


_decode = msgspec.json.Decoder(_Answer).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def rewrite(body: bytes, answer_id: str, model: str) -> Whole:
    """The completion in `body` under our id and the public model name.

    Raises NoAnswer when it is an error, garbage, or has no choice in it.
    """
    try:
        answer, fields = _decode(body), dict[str, Any](_decode_fields(body))
    except (msgspec.DecodeError, RecursionError):
        raise NoAnswer from None
    if bytes(answer.error) not in (b"null", b"{}", b'""'):
        raise NoAnswer(msgspec.json.decode(answer.error))
    if not answer.choices:
        raise NoAnswer
    if any(choice.finish_reason == "error" for choice in answer.choices):  # how a router says it
        raise NoAnswer({"code": "error"})
    fields["id"], fields["model"] = answer_id, model
    return Whole(
        body=msgspec.json.encode(fields),
        usage=parse_usage(answer.usage),
        finish_reason=answer.choices[0].finish_reason or "",
        output_bytes=len(bytes(fields["choices"])),
    )
