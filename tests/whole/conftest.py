"""Chance that can be repeated, and a vendor that a server in another process can reach."""

import os
import random
import subprocess
from collections.abc import AsyncIterator

import pytest

from tests.upstream import Upstream, scripted_upstream
from tests.whole.process import ROOT


@pytest.fixture
def chance() -> random.Random:
    """Randomness of a seed that is printed; `CALLMISSED_TEST_SEED` repeats it."""
    seed = int(os.environ.get("CALLMISSED_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"CALLMISSED_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with scripted_upstream() as started:
        yield started


@pytest.fixture(scope="session")
def bundle() -> None:
    """The dashboard is built as its sources are."""
    built = subprocess.run(
        ["python3", "deploy/build.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
