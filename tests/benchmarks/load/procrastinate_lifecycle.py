"""Defer and process no-op jobs with procrastinate: ``python -m … URL CLIENTS SECONDS``.

Its fast settings: psycopg's asynchronous pool with a connection for whoever may want one, one
worker that runs many jobs at once and is woken by LISTEN/NOTIFY. Prints JSON: jobs processed a
second.
"""

import asyncio
import json
import sys
from typing import Any, Final

import uvloop
from procrastinate import App, PsycopgConnector

from tests.benchmarks.load.backlog import Backlog
from tests.benchmarks.load.job_text import DOCUMENT

_CONCURRENCY: Final = 16


async def main(url: str, clients: int, seconds: float) -> dict[str, float]:
    connections = clients + _CONCURRENCY
    connector = PsycopgConnector(conninfo=url, min_size=connections, max_size=connections)
    app = App(connector=connector)

    async def picture(**_document: Any) -> None:
        await backlog.done()

    task = app.task(name="picture")(picture)

    async def defer() -> None:
        while await backlog.room_for():
            await task.defer_async(**DOCUMENT)

    async with app.open_async():
        schema = await connector.execute_query_one_async(
            "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS installed"
        )
        if not schema["installed"]:
            await app.schema_manager.apply_schema_async()
        backlog = Backlog(seconds)
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=_CONCURRENCY, install_signal_handlers=False)
        )
        await asyncio.gather(*(defer() for _ in range(clients)))
        measured = await backlog.drained()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    return measured


if __name__ == "__main__":
    _url, _clients, _seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(main(_url, int(_clients), float(_seconds)))))
