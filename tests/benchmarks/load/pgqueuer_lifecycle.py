"""No-op jobs with pgqueuer: ``python -m … URL CLIENTS SECONDS BATCH MANAGERS TAKEN``.

Its fast settings: asyncpg on uvloop, a connection for each client that enqueues (one job a call,
or BATCH), MANAGERS queue managers with a connection each that take TAKEN jobs at once. Outcomes are
written in batches, as pgqueuer does by itself. Prints JSON: jobs processed a second.
"""

import asyncio
import json
import sys

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from tests.benchmarks.load.backlog import Backlog
from tests.benchmarks.load.job_text import PAYLOAD


async def main(
    url: str, clients: int, seconds: float, batch: int, managing: int, taken: int
) -> dict[str, float]:
    setup = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    if not await setup.schema_is_installed():
        await setup.install()
    enqueuing = [Queries(AsyncpgDriver(await asyncpg.connect(url))) for _ in range(clients)]
    managers = [PgQueuer(AsyncpgDriver(await asyncpg.connect(url))) for _ in range(managing)]
    backlog = Backlog(seconds)

    async def process(_job: Job) -> None:
        await backlog.done()

    async def enqueue(queries: Queries) -> None:
        while await backlog.room_for(batch):
            if batch == 1:
                await queries.enqueue("picture", PAYLOAD)
            else:
                await queries.enqueue(["picture"] * batch, [PAYLOAD] * batch, [0] * batch)

    for manager in managers:
        manager.entrypoint("picture")(process)
    processing = [asyncio.create_task(manager.run(batch_size=taken)) for manager in managers]
    await asyncio.gather(*(enqueue(queries) for queries in enqueuing))
    measured = await backlog.drained()
    for manager in managers:
        manager.shutdown.set()
    await asyncio.gather(*processing)
    return measured


if __name__ == "__main__":
    _url, _clients, _seconds, *_counts = sys.argv[1:]
    _measured = main(_url, int(_clients), float(_seconds), *map(int, _counts))
    print(json.dumps(uvloop.run(_measured)))
