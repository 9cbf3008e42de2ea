"""What each plan allows, as data."""

REQUESTS_PER_MINUTE = {
    "free": 60,
    "starter": 500,
    "pro": 3_000,
    "enterprise": 10_000,
    "self_hosted": 10_000,
}
"""Calls a minute of one key, where the key has no figure of its own."""


def requests_per_minute(plan: str) -> int:
    """The calls a minute of `plan`; those of `free` for a plan that is not known any more."""
    return REQUESTS_PER_MINUTE.get(plan, REQUESTS_PER_MINUTE["free"])
