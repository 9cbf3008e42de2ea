"""A vendor's chat stream on its way to the caller, as blocks of whole server-sent events.

Bytes go through unchanged but for the answer's `id` and `model`. Nothing is parsed per event: the first
event teaches which bytes to replace, and only events that end something (usage, finish, error, `[DONE]`)
are opened. Format: OpenAI's streaming reference and the WHATWG event stream specification; what vendors do
beside it: comments, CRLF, missing `[DONE]`, errors inside the stream.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from api.types import TokenUsage
from api.wire.usage import parse_usage

MAX_EVENT = 4_194_304
"""An event larger than this is not an answer but an attack or a fault."""


ONE_TOKEN = 16
"""Bytes a token of text takes in an event, quotes included; more is text of several."""


class BrokenStream(Exception):
    """The vendor sent what is no chat stream; `before` are the good events that came with it."""

    before = b""


class _Choice(Struct):
    finish_reason: str | None = None
    delta: Raw = Raw(b"{}")
    usage: Raw = Raw(b"null")


class _Chunk(Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode
_OTHER_FIELDS = (b":", b"event:", b"id:", b"retry:")
_NOTHING = (b"null", b"{}", b"false", b'""')
_COMMENT = b"\n:"
_MARKS = (
    b'"error"',
    b'"finish_reason":"',
    b'"finish_reason": "',
    b'"usage":{',
    b'"usage": {',
    b"[DONE]",
    _COMMENT,
)
"""What an event holds that must be opened; all others are ordinary deltas."""


class Relay:
    """One stream. `feed` takes what arrived and gives what may be sent on."""

    __slots__ = (
        "_frame",
        "_id",
        "_include_usage",
        "_model",
        "_pending",
        "_swaps",
        "_text",
        "content_events",
        "done",
        "error",
        "finish_reason",
        "sent_bytes",
        "usage",
    )

    def __init__(self, answer_id: str, model: str, *, include_usage: bool) -> None:
        self._id, self._model, self._include_usage = answer_id, model, include_usage
        self._pending = b""
        self._frame = self._text = 0
        self._swaps: tuple[tuple[bytes, bytes], ...] | None = None
        self.content_events = 0
        """Events that carried something of the answer."""
        self.sent_bytes = 0
        self.usage: TokenUsage | None = None
        self.finish_reason: str | None = None
        self.done = False
        """`[DONE]` was seen; it is never given on: that is for whoever settles."""
        self.error: Any = None
        """The vendor's error object when it broke the stream with one."""

    def feed(self, data: bytes) -> bytes:
        """Whole events ready to send, possibly none.

        Raises BrokenStream when the bytes are no chat stream.
        """
        if b"\r" in data:
            data = data.replace(b"\r", b"")
        if self._pending:
            data = self._pending + data
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._keep(data)
            return b""
        self._keep(data[end:])
        block = data[:end] if end != len(data) else data
        out = self._swap(block) if self._is_plain(block) else self._open(block)
        self.sent_bytes += len(out)
        return out

    def close(self) -> bytes:
        """What is left when the vendor closed cleanly: a last event without its blank line."""
        rest, self._pending = self._pending, b""
        return self.feed(rest + b"\n\n") if rest.strip() else b""

    @property
    def tokens_sent(self) -> int:
        """Tokens sent so far, erring high: one an event, and more where events carry much text."""
        events = self.content_events
        return events + max(0, self.sent_bytes - events * self._frame) // 3 if self._frame else events

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, so that a close after it is no cut."""
        return self.error is None and (self.done or self.finish_reason is not None)

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_EVENT:
            raise BrokenStream
        self._pending = rest

    def _is_plain(self, block: bytes) -> bool:
        """Whether every event of the block is an ordinary delta that needs no look inside."""
        return (
            self._may_swap
            and not block.startswith((b":", b"\n"))
            and not any(map(block.__contains__, _MARKS))
        )

    @property
    def _may_swap(self) -> bool:
        return self._swaps is not None and self._frame > 0 and not self.done and self.error is None

    def _swap(self, block: bytes) -> bytes:
        events = block.count(b"data:")
        if events != block.count(b"\n\n"):
            return self._each(block)
        out = block
        for old, new in self._swaps or ():
            out = out.replace(old, new)
            if out.count(new) < events:
                return self._each(block)
        self.content_events += events
        return out

    def _open(self, block: bytes) -> bytes:
        """Runs of ordinary deltas swapped as one, what stands between them event by event."""
        out: list[bytes] = []
        marks = {mark: block.find(mark) for mark in _MARKS}
        at = 0
        try:
            while at < len(block) and not self.done and self.error is None:
                until = _next_marked(block, at, marks) if self._may_swap else at
                if until > at:
                    out.append(self._swap(block[at:until]))
                else:
                    until = block.find(b"\n\n", at) + 2
                    out.append(self._each(block[at:until]))
                at = until
        except BrokenStream as error:
            error.before = b"".join(out) + error.before
            raise
        return b"".join(out)

    def _each(self, block: bytes) -> bytes:
        """The slow way: every event parsed and written anew."""
        events: list[bytes] = []
        try:
            for event in block.split(b"\n\n"):
                if event.strip():
                    events.append(self._event(event))
                    if not self._frame and self.content_events:
                        self._frame = max(1, len(events[-1]) - max(0, self._text - ONE_TOKEN))
        except BrokenStream as error:
            error.before = b"".join(events)
            raise
        return b"".join(events)

    def _event(self, event: bytes) -> bytes:
        lines = [line[5:].lstrip(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if self.done or self.error is not None:
            return b""
        if not lines:
            if all(line.startswith(_OTHER_FIELDS) for line in event.split(b"\n") if line):
                return b""
            raise BrokenStream
        data = b"\n".join(lines)
        if data.strip() == b"[DONE]":
            self.done = True
            return b""
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, RecursionError):
            raise BrokenStream from None
        return self._chunk(chunk, data)

    def _chunk(self, chunk: _Chunk, data: bytes) -> bytes:
        if bytes(chunk.error) not in _NOTHING:
            self.error = msgspec.json.decode(chunk.error)
            return b""
        self._read(chunk)
        if not chunk.choices and bytes(chunk.usage) != b"null" and not self._include_usage:
            return b""
        if self._swaps is None and chunk.id and chunk.model:
            self._learn(chunk.id, chunk.model, data)
        fields: dict[str, Any] = dict(_decode_fields(data))
        fields["id"], fields["model"] = self._id, self._model
        return b"data: " + _encode(fields) + b"\n\n"

    def _read(self, chunk: _Chunk) -> None:
        usage = parse_usage(chunk.usage)
        for choice in chunk.choices or ():
            usage = usage or parse_usage(choice.usage)
            if choice.finish_reason == "error":
                self.error = {"code": "error"}
            elif choice.finish_reason:
                self.finish_reason = choice.finish_reason
            if text := _text_in(bytes(choice.delta)):
                self.content_events += 1
                self._text += text
        self.usage = usage or self.usage

    def _learn(self, chunk_id: str, chunk_model: str, data: bytes) -> None:
        """Remember the exact bytes of this vendor's `id` and `model`, spacing included."""
        swaps = []
        for name, old, new in ((b"id", chunk_id, self._id), (b"model", chunk_model, self._model)):
            for gap in (b"", b" "):
                literal = b'"' + name + b'":' + gap + _encode(old)
                if literal in data:
                    swaps.append((literal, b'"' + name + b'":' + _encode(new)))
                    break
        if len(swaps) == 2:
            self._swaps = tuple(swaps)


def _next_marked(block: bytes, at: int, marks: dict[bytes, int]) -> int:
    """Where the next event begins, from `at` on, that must be opened; the block's length when none does.

    `marks` remembers where each mark is found next, so that a block is searched once however many there are.
    """
    if block.startswith((b":", b"\n"), at):
        return at
    for mark, place in marks.items():
        if 0 <= place < at:
            marks[mark] = block.find(mark, at)
    first = min((place for place in marks.values() if place >= 0), default=-1)
    if first < 0:
        return len(block)
    # A comment's mark begins with the end of the event before it.
    before = block.rfind(b"\n\n", at, first + 1)
    return at if before < 0 else before + 2


def _text_in(delta: bytes) -> int:
    """Bytes of text in a delta; 1 for what is no text, 0 for only the role, an empty string or null."""
    if delta in _NOTHING:
        return 0
    fields = {name: bytes(value) for name, value in _decode_fields(delta).items() if name != "role"}
    if not any(value not in (*_NOTHING, b"[]") for value in fields.values()):
        return 0
    return max(1, *(len(fields.get(name, b"")) for name in ("content", "reasoning", "reasoning_content")))
