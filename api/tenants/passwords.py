"""Passwords: argon2id through passlib, in two threads beside the event loop.

Cost: 19 MiB, two passes, one lane (OWASP's minimum for argon2id), about 25 ms of one core.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from passlib.context import CryptContext

from api.errors import unavailable

Result = TypeVar("Result")

THREADS = 2
LONGEST_QUEUE = 64
"""Checks that may wait; at two a time the last waits about a second."""

_context = CryptContext(
    schemes=["argon2"], argon2__memory_cost=19_456, argon2__time_cost=2, argon2__parallelism=1
)
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
_waiting = 0


async def hash_password(password: str) -> str:
    """The argon2id hash of `password`. Raises `service_unavailable` when too many are waiting."""
    return await _in_pool(partial(_hash, password))


async def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether `password` is the one of `password_hash`; for None False, after the same time.

    Raises `service_unavailable` when too many are waiting.
    """
    return await _in_pool(partial(_verify, password, password_hash))


def _hash(password: str) -> str:
    return str(_context.hash(password))


def _verify(password: str, password_hash: str | None) -> bool:
    # For None passlib checks against a hash of its own, at the same cost, and says no.
    return bool(_context.verify(password, password_hash))


async def _in_pool(work: Callable[[], Result]) -> Result:
    global _waiting
    if _waiting >= THREADS + LONGEST_QUEUE:
        raise unavailable("service_unavailable", "Too many sign-ins right now. Try again.", retry_after=2)
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_pool, work)
    finally:
        _waiting -= 1
