"""Channels of clients that know nothing of each other."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import grpc

_SECONDS: Final = 10


async def open_channel(stack: AsyncExitStack, address: str) -> grpc.aio.Channel:
    """A connected channel; its connection is its own, although the address is shared."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, own))
    async with asyncio.timeout(_SECONDS):
        await channel.channel_ready()
    return channel
