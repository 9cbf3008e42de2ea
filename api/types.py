"""Values every room may speak of: ids, time, and the `Caller`."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import msgspec

Milliseconds = int
"""Moments are stored as UTC milliseconds since 1970, the same on every database."""

Clock = Callable[[], Milliseconds]

IST_OFFSET: Milliseconds = 19_800_000
"""Indian Standard Time is UTC+05:30, without daylight saving: days and months are cut there."""

DAY: Milliseconds = 86_400_000

Role = Literal["owner", "admin", "agent"]

# Seeded once from the system: ids must be unique, not secret, and a system call each is a measurable cost.
_noise = random.Random(os.urandom(32)).getrandbits


def now() -> Milliseconds:
    """The present moment."""
    return time.time_ns() // 1_000_000


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562 §5.7): sortable by time, unique, never to be used as a secret."""
    stamp = time.time_ns() // 1_000_000
    noise = _noise(74)
    high, low = noise >> 62, noise & ((1 << 62) - 1)
    return UUID(int=(stamp << 80) | (7 << 76) | (high << 64) | (2 << 62) | low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking, and what the credential allows. The only currency of identity below the edge."""

    tenant_id: UUID
    kind: Literal["key", "session"]
    plan: str
    key_id: UUID | None = None
    user_id: UUID | None = None
    role: Role | None = None
    live: bool = True
    """False for `cm_test_` keys: they reach `local/*` only and move no money."""
    permissions: frozenset[str] = frozenset({"*"})
    scopes: frozenset[str] = frozenset()
    allowed_models: frozenset[str] | None = None
    """None: any model."""
    rate_limit_rpm: int = 60
    in_flight_limit: int = 512
    budget_ids: tuple[UUID, ...] = field(default=())
    """Budgets a hold must also fit in (the key's own budget, …)."""
    logs_enabled: bool = False
    prompt_logging_enabled: bool = False

    def may(self, permission: str) -> bool:
        """Whether the credential carries the service permission (`llm`, `stt`, …)."""
        return "*" in self.permissions or permission in self.permissions


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens in disjoint classes; `reasoning` is a part of `output` and only a remark."""

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
