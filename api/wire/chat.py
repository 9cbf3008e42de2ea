"""A chat completion request: checked once, kept as the caller's bytes.

Fields follow OpenAI's `POST /chat/completions` reference. Unknown fields are passed on untouched.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from api.errors import invalid_request

IMAGE_TOKENS = 1_700
"""What an image is held for; more than the documented cost of a high-detail picture at the vendors."""

MESSAGE_TOKENS = 8
"""What a message's frame (role, separators) is held for."""

_NULL = Raw(b"null")


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Raw = _NULL


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Body(Struct):
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=10_000)]
    model: Annotated[str, Meta(max_length=200)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: Annotated[str, Meta(max_length=256)] | None = None
    tools: Raw = _NULL
    functions: Raw = _NULL
    response_format: Raw = _NULL


class ChatRequest(msgspec.Struct, frozen=True):
    """One request as the gateway needs it; the rest is in `body`, as the caller wrote it."""

    body: bytes
    model: str
    """What the caller asked for; empty when no model was named."""
    stream: bool
    include_usage: bool
    max_tokens: int | None
    choices: int
    prompt_tokens: int
    """An estimate that errs high."""
    has_images: bool
    user: str | None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


def parse(body: bytes) -> ChatRequest:
    """The request in `body`.

    Raises ApiError 400 with the parameter's name when it is not JSON or breaks a documented bound.
    """
    check_text(body)
    try:
        parsed = _decode_body(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    except (msgspec.DecodeError, RecursionError):
        raise _not_json() from None
    has_images = b"image_url" in body and any(b"image_url" in bytes(m.content) for m in parsed.messages)
    return ChatRequest(
        body=body,
        model=parsed.model or "",
        stream=bool(parsed.stream),
        include_usage=bool(parsed.stream_options and parsed.stream_options.include_usage),
        max_tokens=parsed.max_completion_tokens or parsed.max_tokens,
        choices=parsed.n or 1,
        prompt_tokens=_estimate(parsed, has_images),
        has_images=has_images,
        user=parsed.user,
    )


def with_fields(body: bytes, changes: Mapping[str, Any], drops: Iterable[str] = ()) -> bytes:
    """`body` with top-level fields set and others dropped; every other field keeps its bytes."""
    fields: dict[str, Any] = dict(_decode_fields(body))
    fields.update(changes)
    for name in drops:
        fields.pop(name, None)
    return _encode(fields)


def check_text(body: bytes) -> None:
    """Refuse what is JSON to some readers and not to others: broken UTF-8 and lone surrogates.

    Raises ApiError 400.
    """
    try:
        if not body.isascii():
            body.decode()
        if b"\\ud" in body or b"\\uD" in body:
            msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise _not_json() from None


def text_tokens(text: bytes) -> int:
    """Tokens of JSON text, erring high: a third of its ASCII bytes, and every other byte one."""
    escapes = text.count(b"\\u") if b"\\u" in text else 0
    if text.isascii():
        return len(text) // 3 + escapes
    ascii_bytes = len(text.decode(errors="ignore").encode("ascii", "ignore"))
    return ascii_bytes // 3 + (len(text) - ascii_bytes) + escapes


def _estimate(parsed: _Body, has_images: bool) -> int:
    contents = [bytes(message.content) for message in parsed.messages]
    images = 0
    if has_images:
        contents, images = _without_images(contents)
    extra = (bytes(parsed.tools), bytes(parsed.functions), bytes(parsed.response_format))
    return (
        sum(text_tokens(text) for text in (*contents, *extra) if text != b"null")
        + images * IMAGE_TOKENS
        + len(contents) * MESSAGE_TOKENS
    )


def _without_images(contents: list[bytes]) -> tuple[list[bytes], int]:
    """The contents with the data of pictures taken out, and how many pictures there were."""
    images, texts = 0, []
    for content in contents:
        parts = msgspec.json.decode(content)
        if isinstance(parts, list):
            kept = [part for part in parts if not (isinstance(part, dict) and "image_url" in part)]
            images += len(parts) - len(kept)
            content = _encode(kept)
        texts.append(content)
    return texts, images


def _not_json() -> Exception:
    return invalid_request("We could not read the body of your request: it is not valid JSON in UTF-8.")


def _wrong_field(reason: str) -> Exception:
    """msgspec's sentence (`Expected … - at `$.field``) as ours, with the field as `param`."""
    what, _, where = reason.partition(" - at ")
    param = where.strip("`").removeprefix("$").lstrip(".") or None
    return invalid_request(f"Invalid value for '{param}': {what}." if param else f"{what}.", param=param)
