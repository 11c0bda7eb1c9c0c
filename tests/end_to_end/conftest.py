"""What end-to-end tests start ends with them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends, in reverse order, all that a test has started."""
    async with AsyncExitStack() as open_until_the_end:
        yield open_until_the_end
