"""Every refusal the product documents: status, stable code, and a sentence that is safe to show.

Raised where the fact is known, rendered once at the edge. Upstream text never becomes a message here.
"""

from collections.abc import Mapping


class ApiError(Exception):
    """A refusal with its HTTP status, OpenAI `type` and `code`, and a client-safe sentence."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.type, self.param = status, code, message, type, param
        self.headers: dict[str, str] = dict(headers or {})


def invalid_request(message: str, *, param: str | None = None, status: int = 400) -> ApiError:
    """The body or a parameter is wrong; nothing was run and nothing charged."""
    return ApiError(status, "invalid_request_error", message, param=param)


def invalid_api_key() -> ApiError:
    """Missing, unknown or revoked key."""
    return ApiError(401, "invalid_api_key", "Invalid API key")


def api_key_expired() -> ApiError:
    """The key is past its expiry."""
    return ApiError(401, "api_key_expired", "This API key has expired. Create a new one in the dashboard.")


def forbidden(code: str, message: str) -> ApiError:
    """The credential is good but may not do this (`permission_denied`, `model_not_allowed`, …)."""
    return ApiError(403, code, message, headers={"x-should-retry": "false"})


def not_found(what: str) -> ApiError:
    """`what` does not exist in this organization; the same answer whether it exists elsewhere."""
    return ApiError(404, "not_found", f"{what} not found")


def model_not_found(model: str) -> ApiError:
    """The id is not in the catalog, or has no price."""
    return ApiError(
        404,
        "model_not_found",
        f"The model '{model[:100]}' does not exist. See GET /v1/models.",
        param="model",
    )


def no_credits(message: str, code: str = "insufficient_credits") -> ApiError:
    """The wallet or a budget cannot cover the call (`insufficient_credits`, `budget_exceeded`)."""
    return ApiError(402, code, message, type="insufficient_quota", headers={"x-should-retry": "false"})


def too_many(code: str, message: str, *, retry_after: int, type: str = "rate_limit_error") -> ApiError:
    """A limit is reached; `retry_after` is in seconds, at least 1."""
    return ApiError(429, code, message, type=type, headers={"Retry-After": str(max(1, retry_after))})


def unavailable(code: str, message: str, *, retry_after: int = 5) -> ApiError:
    """Temporarily impossible (`service_unavailable`, `provider_error`, `model_under_maintenance`)."""
    return ApiError(503, code, message, type="api_error", headers={"Retry-After": str(max(1, retry_after))})


def upstream_failed() -> ApiError:
    """The vendor failed before the first byte; the hold is void and nothing is charged."""
    return ApiError(
        502,
        "upstream_error",
        "The model's provider failed to answer. You were not charged.",
        type="api_error",
    )
