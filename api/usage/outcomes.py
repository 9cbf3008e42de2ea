"""How a request ended, in words that are safe to show: never the vendor's."""

SUCCESS = ("ok", "client_gone")
"""Outcomes that are nobody's failure: answered in full, or stopped by who asked."""

_BY_CODE = {
    "invalid_request_error": "The request was malformed or a parameter was out of range.",
    "invalid_request": "The request was malformed or a parameter was out of range.",
    "context_length_exceeded": "The prompt is longer than the model's context.",
    "content_policy_violation": "The prompt was refused by the content policy.",
    "unsupported_image_input": "The model does not take images.",
    "invalid_api_key": "The API key is missing, unknown or revoked.",
    "api_key_expired": "The API key has expired.",
    "insufficient_credits": "The balance did not cover the call.",
    "budget_exceeded": "A budget did not cover the call.",
    "permission_denied": "The API key lacks the permission for this service.",
    "model_not_available": "The model needs a paid plan.",
    "model_not_allowed": "The model is not among those the API key allows.",
    "search_provider_not_allowed": "The search provider is not among those the API key allows.",
    "domain_not_allowed": "The request came from a domain the API key does not allow.",
    "account_inactive": "The account is not active.",
    "account_terminated": "The account was closed.",
    "not_found": "What the request named does not exist.",
    "model_not_found": "The model does not exist or has no price.",
    "rate_limit_exceeded": "The API key made more requests a minute than it may.",
    "quota_exceeded": "A monthly cap was reached.",
    "too_many_concurrent_requests": "The API key had too many requests in flight.",
    "upstream_error": "The model's provider failed to answer.",
    "provider_error": "The model's provider failed to answer.",
    "service_unavailable": "The service was busy; the call can be made again.",
    "model_under_maintenance": "The model was under maintenance.",
    "idempotency_result_too_large": "The answer was too large to be kept for a repeat.",
    "client_closed_request": "The client closed the connection before the answer was complete.",
    "internal_error": "Something went wrong on our side.",
}

_BY_OUTCOME = {
    "client_gone": "The client closed the connection before the answer was complete.",
    "cut": "The model's provider broke off the answer.",
    "timeout": "The model's provider took too long.",
    "interrupted": "The server stopped while the request ran; nothing was charged.",
}
"""Outcomes that say more than a code; the others are `refused` and `failed`."""


def error_message(outcome: str, error_code: str) -> str | None:
    """One sentence on why there is no whole answer; None when there is one."""
    if outcome == "ok":
        return None
    return _BY_OUTCOME.get(outcome) or _BY_CODE.get(error_code, "The request failed.")
