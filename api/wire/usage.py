"""Usage as vendors report it on OpenAI's wire, made into disjoint token classes.

`prompt_tokens` includes cached and cache-write tokens and `completion_tokens` includes reasoning (OpenAI);
Moonshot puts `cached_tokens` beside them.
"""

import msgspec
from msgspec import Raw, Struct

from api.types import TokenUsage

_MOST = 1 << 40


class _PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cached_tokens: int | None = None


_decode = msgspec.json.Decoder(_Usage, strict=False).decode


def parse_usage(raw: Raw | bytes) -> TokenUsage | None:
    """The usage in `raw`; None when it is missing or cannot be true. An explicit 0 is a number."""
    data = bytes(raw)
    if data == b"null":
        return None
    try:
        usage = _decode(data)
    except msgspec.DecodeError:
        return None
    prompt = usage.prompt_tokens_details or _PromptDetails()
    cached = prompt.cached_tokens or usage.cached_tokens or 0
    written = prompt.cache_write_tokens or 0
    reasoning = (usage.completion_tokens_details or _CompletionDetails()).reasoning_tokens or 0
    numbers = (usage.prompt_tokens, usage.completion_tokens, cached, written, reasoning)
    if min(numbers) < 0 or max(numbers) > _MOST or cached + written > usage.prompt_tokens:
        return None
    return TokenUsage(
        input=usage.prompt_tokens - cached - written,
        cached=cached,
        cache_write=written,
        output=usage.completion_tokens,
        reasoning=reasoning,
    )
