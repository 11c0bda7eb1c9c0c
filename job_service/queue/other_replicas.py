"""What connects a replica with the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from job_service.events.hub import Hub
from job_service.events.preview_exchange import PreviewExchange
from job_service.events.progress_board import ProgressBoard
from job_service.events.relay import Relay
from job_service.queue.background import running_loops
from job_service.queue.fleet import Fleet
from job_service.queue.fleet_news import FleetNews
from job_service.store.database import Database
from job_service.store.previews import PreviewTable


@asynccontextmanager
async def connected(
    hub: Hub,
    database: Database,
    listen_url: str,
    fleet: Fleet,
    board: ProgressBoard,
    catch_up: float,
) -> AsyncIterator[None]:
    """Hear of other replicas, and have them told, while the block is open.

    The fleet knows what is in the table when it begins. ``catch_up``: seconds after which anything
    is read without having been told. Raises RefusedError: DATABASE_UNAVAILABLE.
    """
    await fleet.learn()
    previews = PreviewExchange(hub, board, PreviewTable(database))
    # Route keys and pauses change seldom.
    news = FleetNews(hub, fleet, 2 * catch_up)
    receivers = [news.heard, board.heard, previews.heard]
    relay = Relay(hub, database, listen_url, board, previews, receivers)
    hub.lead_to(relay)
    loops = {"news of the fleet": news.run, "previews": previews.run, "relay": relay.run}
    async with running_loops(loops):
        try:
            yield
        finally:
            await relay.leave()
