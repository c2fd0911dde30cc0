from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway


@pytest.fixture
async def script() -> AsyncIterator[ScriptedGateway]:
    """A gateway that a test writes the answers of, and what it was asked."""
    async with scripted_gateway() as gateway:
        yield gateway
