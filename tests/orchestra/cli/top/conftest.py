from collections.abc import AsyncIterator

import pytest

from tests.support.operating import Busy
from tests.support.scripted_gateway import scripted_gateway


@pytest.fixture
async def busy() -> AsyncIterator[Busy]:
    """A gateway with all that `orchestra top` asks for."""
    async with scripted_gateway() as gateway:
        yield Busy(gateway)
