"""A vendor's stream keeps its bytes but for id and model, and its end is never taken for granted."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.types import TokenUsage
from api.wire.relay import MAX_EVENT, BrokenStream, Relay

ID, MODEL = "gen_0123", "public/model"


def event(**fields: object) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "upstream", **fields}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def delta(text: str, **more: object) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more)


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
DONE = b"data: [DONE]\n\n"
STREAM = ROLE + delta("a") + delta("b") + delta("c") + FINISH + USAGE + DONE


def relay(*, include_usage: bool = False) -> Relay:
    return Relay(ID, MODEL, include_usage=include_usage)


def chunks(out: bytes) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]


def test_every_event_carries_our_id_and_the_public_model() -> None:
    out = relay().feed(STREAM)
    assert {(chunk["id"], chunk["model"]) for chunk in chunks(out)} == {(ID, MODEL)}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks(out)) == "abc"


def test_plain_deltas_keep_every_other_byte() -> None:
    subject = relay()
    subject.feed(ROLE)
    odd = delta("x", **{"timings": {"a": 1.50}, "empty": None})
    assert subject.feed(odd) == odd.replace(b"chatcmpl-1", ID.encode()).replace(b"upstream", MODEL.encode())


def test_done_is_never_given_on() -> None:
    subject = relay()
    assert b"[DONE]" not in subject.feed(STREAM)
    assert subject.done and subject.complete


def test_usage_is_read_and_hidden_unless_the_caller_asked() -> None:
    hidden, shown = relay(), relay(include_usage=True)
    assert not any(chunk.get("usage") for chunk in chunks(hidden.feed(STREAM)))
    assert chunks(shown.feed(STREAM))[-1]["usage"]["total_tokens"] == 10
    assert hidden.usage == shown.usage == TokenUsage(input=7, output=3)


def test_usage_null_on_every_chunk_is_no_usage() -> None:
    subject = relay()
    subject.feed(ROLE + delta("a", usage=None) + delta("b", usage=None))
    assert subject.usage is None


def test_an_explicit_zero_is_a_number() -> None:
    subject = relay()
    subject.feed(ROLE + event(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0}))
    assert subject.usage == TokenUsage()


def test_content_events_are_counted_without_role_finish_and_usage() -> None:
    subject = relay()
    subject.feed(STREAM)
    assert subject.content_events == 3


def test_comments_never_reach_the_caller() -> None:
    subject = relay()
    out = subject.feed(b": OPENROUTER PROCESSING\n\n" + ROLE + b": OPENROUTER PROCESSING\n\n" + delta("a"))
    out += subject.feed(b": OPENROUTER PROCESSING\n\n")
    assert b"OPENROUTER" not in out and len(chunks(out)) == 2


def test_crlf_line_ends_are_understood() -> None:
    subject = relay()
    subject.feed(STREAM.replace(b"\n", b"\r\n"))
    assert subject.done and subject.content_events == 3


def test_an_error_inside_the_stream_stops_it_and_its_words_stay_inside() -> None:
    subject = relay()
    out = subject.feed(ROLE + delta("a") + event(error={"message": "SECRET upstream words"}) + delta("b"))
    assert subject.error and not subject.complete
    assert b"SECRET" not in out and len(chunks(out)) == 2


def test_a_finish_reason_of_error_is_an_error() -> None:
    subject = relay()
    subject.feed(ROLE + event(choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]))
    assert not subject.complete


def test_the_word_error_in_an_answer_is_only_a_word() -> None:
    subject = relay()
    out = subject.feed(ROLE + delta("error") + delta('"error":{') + FINISH)
    assert subject.complete and len(chunks(out)) == 4


def test_text_that_quotes_our_literals_is_not_rewritten() -> None:
    subject = relay()
    subject.feed(ROLE)
    text = '"id":"chatcmpl-1" "model":"upstream"'
    assert chunks(subject.feed(delta(text)))[0]["choices"][0]["delta"]["content"] == text


def test_an_id_that_changes_in_mid_stream_is_replaced_too() -> None:
    subject = relay()
    out = subject.feed(ROLE) + subject.feed(delta("a").replace(b"chatcmpl-1", b"chatcmpl-2"))
    assert {chunk["id"] for chunk in chunks(out)} == {ID}


def test_a_close_without_a_finish_is_not_complete() -> None:
    subject = relay()
    subject.feed(ROLE + delta("a"))
    subject.close()
    assert not subject.complete


def test_a_last_event_without_its_blank_line_counts() -> None:
    subject = relay()
    subject.feed(ROLE + delta("a") + FINISH.rstrip())
    subject.close()
    assert subject.complete


@pytest.mark.parametrize(
    "garbage", [b"data: {half\n\n", b"\x00<html>\n\n", b"data: \xff\xfe\n\n", b"data: [1,2]\n\n"]
)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BrokenStream):
        relay().feed(garbage)


def test_garbage_between_plain_deltas_is_refused_too() -> None:
    subject = relay()
    subject.feed(ROLE)
    with pytest.raises(BrokenStream):
        subject.feed(delta("a") + b"<html>oops\n\n" + delta("b"))


def test_an_endless_event_is_refused() -> None:
    subject = relay()
    with pytest.raises(BrokenStream):
        for _ in range(6):
            subject.feed(b"x" * (MAX_EVENT // 4))


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_however_the_bytes_are_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    subject, whole = relay(include_usage=True), relay(include_usage=True)
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert chunks(b"".join(subject.feed(piece) for piece in pieces)) == chunks(whole.feed(STREAM))
    assert (subject.usage, subject.content_events, subject.done) == (whole.usage, 3, True)
