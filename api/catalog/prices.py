"""The arithmetic of a charge, and prices as they were.

A charge is the sum over disjoint token classes of units times price, rounded up once. Prices are
micro-credits per million units. The version of a price list is part of every usage row.
"""

import hashlib
import json
from collections.abc import Mapping

from api.money import rounded_up
from api.types import TokenUsage

CLASSES = ("input", "cached", "cache_write", "output")


def parts(usage: TokenUsage, prices: Mapping[str, int]) -> tuple[tuple[str, int, int], ...]:
    """`(class, units, price)` of every class; what the charge is made of."""
    units = (usage.input, usage.cached, usage.cache_write, usage.output)
    return tuple((name, count, prices[name]) for name, count in zip(CLASSES, units, strict=True))


def cost(usage: TokenUsage, prices: Mapping[str, int]) -> int:
    """Micro-credits for `usage`, rounded up once: `charge` of its `parts`, without building them."""
    total = usage.input * prices["input"] + usage.cached * prices["cached"]
    total += usage.cache_write * prices["cache_write"] + usage.output * prices["output"]
    return rounded_up(total)


def version_of(model: str, prices: Mapping[str, int]) -> str:
    """`<model>@<12 hex>`: the same for the same prices on every machine."""
    canonical = json.dumps(dict(prices), sort_keys=True, separators=(",", ":"))
    return f"{model[:51]}@{hashlib.sha256(f'{model} {canonical}'.encode()).hexdigest()[:12]}"
