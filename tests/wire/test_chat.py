"""A chat request is checked once, against documented bounds, and its bytes are kept."""

import json

import pytest

from api.errors import ApiError
from api.wire.chat import IMAGE_TOKENS, parse, text_tokens, with_fields


def body(**fields: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b"[]", None),
        (b'{"messages":[]}', "messages"),
        (b'{"model":"m"}', None),
        (b'{"messages":[{"role":"robot","content":"x"}]}', "messages[0].role"),
        (b'{"messages":[{"role":"user","content":NaN}]}', None),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', None),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', None),
        (b'{"messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", None),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(n=17), "n"),
        (body(temperature=2.1), "temperature"),
        (body(top_logprobs=21), "top_logprobs"),
        (body(model="m" * 201), "model"),
        (body(user="u" * 257), "user"),
        (body(stream="yes"), "stream"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_parameter(raw: bytes, param: str | None) -> None:
    with pytest.raises(ApiError) as refusal:
        parse(raw)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert "msgspec" not in refusal.value.message and "$" not in refusal.value.message


def test_unknown_fields_are_kept_byte_for_byte() -> None:
    raw = b'{"messages":[{"role":"user","content":"hi"}],"future":{"a" : [1.50, 1e3]}}'
    assert b'"future":{"a" : [1.50, 1e3]}' in with_fields(raw, {"model": "x"})


def test_fields_are_set_and_dropped() -> None:
    changed = json.loads(with_fields(body(user="u", seed=1), {"model": "x"}, drops=("user",)))
    assert changed["model"] == "x" and changed["seed"] == 1 and "user" not in changed


def test_max_completion_tokens_wins_over_the_old_name() -> None:
    assert parse(body(max_tokens=5, max_completion_tokens=9)).max_tokens == 9


@pytest.mark.parametrize(
    "text", ["The quick brown fox jumps over the lazy dog. " * 20, "नमस्ते दुनिया, आप कैसे हैं? " * 20, "漢字" * 50]
)
def test_the_estimate_errs_high(text: str) -> None:
    """Against four characters a token for Latin text and one for every other letter, a usual count."""
    latin = text.isascii()
    usual = len(text) // 4 if latin else sum(not c.isspace() for c in text) // 2
    assert parse(body(messages=[{"role": "user", "content": text}])).prompt_tokens >= usual


def test_escaped_and_plain_letters_are_estimated_alike_or_higher() -> None:
    plain = json.dumps("नमस्ते" * 50, ensure_ascii=False).encode()
    assert text_tokens(json.dumps("नमस्ते" * 50).encode()) >= text_tokens(plain) // 2


def test_a_picture_counts_as_a_picture_not_as_its_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}}
    request = parse(body(messages=[{"role": "user", "content": [{"type": "text", "text": "?"}, picture]}]))
    assert request.has_images
    assert IMAGE_TOKENS <= request.prompt_tokens < IMAGE_TOKENS + 100


def test_the_words_image_url_in_text_make_no_picture() -> None:
    request = parse(body(messages=[{"role": "user", "content": "what is image_url?"}]))
    assert request.prompt_tokens < 50
