"""A running gateway on each database, with a scripted upstream in the place of OpenAI."""

from collections.abc import AsyncIterator

import pytest

from api.ledger import verify
from api.settings import Settings
from tests.running import Customer, Running, customer, running
from tests.upstream import Upstream, scripted_upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with scripted_upstream() as started:
        yield started


@pytest.fixture
def gateway_settings(database_settings: Settings, upstream: Upstream) -> Settings:
    """OpenAI is the scripted upstream; waits are short; the local engine is out."""
    return database_settings.model_copy(
        update={
            "vendors": {
                "OPENAI_BASE_URL": upstream.url,
                "OPENAI_API_KEY": "sk-upstream-secret",
                "OPENROUTER_BASE_URL": upstream.url,
            },
            "local": False,
            "first_block_wait": 0.3,
            "keep_alive_interval": 0.2,
            "stall_timeout": 1.0,
            "connect_timeout": 20.0,
            "request_deadline": 30.0,
        }
    )


@pytest.fixture
async def gateway(gateway_settings: Settings) -> AsyncIterator[Running]:
    async with running(gateway_settings) as started:
        yield started
        # Whatever a test did, the books add up after it.
        assert (await verify(started.services.database)).drift == []


@pytest.fixture
async def acme(gateway: Running) -> Customer:
    """An organization with 1,000 credits."""
    return await customer(gateway.services)
