"""A vendor's failure as the gateway needs it: what to tell the caller, and whether another target may help.

Only the status and the stable code of a vendor's error are read; its sentences never leave this room.
"""

import msgspec

from api.errors import ApiError, invalid_request, unavailable, upstream_failed
from api.providers.transport import (
    ConnectTimeout,
    ReadTimeout,
    StallTimeout,
    TotalTimeout,
    TransportError,
)

_TIMEOUTS = (ConnectTimeout, ReadTimeout, StallTimeout, TotalTimeout)
_CONTEXT_CODES = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "max_tokens_exceeded", "token_limit_exceeded"}
)
_POLICY_CODES = frozenset({"content_policy_violation", "content_filter", "refusal"})
_MOST_SECONDS = 120


class ProviderError(Exception):
    """A target failed before its first block. `refusal` is for the caller when no other target answers."""

    def __init__(self, refusal: ApiError, *, retryable: bool, timed_out: bool = False) -> None:
        super().__init__(refusal.code)
        self.refusal, self.retryable, self.timed_out = refusal, retryable, timed_out


def of_transport(error: TransportError) -> ProviderError:
    """The connection failed: never the caller's fault."""
    return ProviderError(upstream_failed(), retryable=True, timed_out=isinstance(error, _TIMEOUTS))


def of_garbage() -> ProviderError:
    """A 200 that holds no answer."""
    return ProviderError(upstream_failed(), retryable=True)


def of_status(status: int, body: bytes, retry_after: bytes | None) -> ProviderError:
    """A vendor's refusal by its status first, its code second.

    401 and 403 are about our key, 404 about our model name: our fault, so 502 and the next target.
    """
    code = _code(body)
    if status in (400, 413, 422) or code in _CONTEXT_CODES | _POLICY_CODES:
        return ProviderError(_of_request(code, status), retryable=False)
    if status in (408, 409, 425, 429) or status >= 500:
        wait = _seconds(retry_after)
        if status in (429, 503, 529):
            refusal = unavailable(
                "provider_error",
                "The model's provider is overloaded. You were not charged; try again shortly.",
                retry_after=wait,
            )
            return ProviderError(refusal, retryable=True)
        return ProviderError(upstream_failed(), retryable=True)
    return ProviderError(upstream_failed(), retryable=True)


def of_body(error: object) -> ProviderError:
    """An error object inside a 200, before anything of an answer."""
    body = msgspec.json.encode({"error": error})
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code <= 599 else 502
    return of_status(status, body, None)


def _of_request(code: str, status: int) -> ApiError:
    if code in _CONTEXT_CODES:
        return ApiError(
            400,
            "context_length_exceeded",
            "The messages and the answer you asked for are longer than the model's context. Shorten the "
            "conversation or lower max_tokens.",
            param="messages",
        )
    if code in _POLICY_CODES:
        return ApiError(400, "content_policy_violation", "The model's provider refused this content.")
    if status == 413:
        return ApiError(413, "invalid_request_error", "The request is too large for this model's provider.")
    return invalid_request(
        "The model's provider refused a parameter of this request. Check that the model supports every field "
        "you send."
    )


def _code(body: bytes) -> str:
    """The vendor's own code or type, wherever it puts it; empty when the body is no JSON error."""
    try:
        error = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if isinstance(error, list):
        error = error[0] if error else None
    error = error.get("error", error) if isinstance(error, dict) else None
    if not isinstance(error, dict):
        return ""
    metadata = error.get("metadata")
    named = metadata.get("error_type") if isinstance(metadata, dict) else None
    for value in (named, error.get("code"), error.get("type")):
        if isinstance(value, str):
            return value
    return ""


def _seconds(retry_after: bytes | None) -> int:
    """A vendor's `Retry-After` in seconds, 1 to 120; a date or nothing is 5."""
    try:
        return min(max(1, int(retry_after or b"5")), _MOST_SECONDS)
    except ValueError:
        return 5
