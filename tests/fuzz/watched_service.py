"""job_service as ``job-service serve`` runs it, that says how it is when it gets SIGUSR1.

``python -m tests.fuzz.watched_service FILE``: FILE then gets a JSON object with ``tasks``, the
asyncio tasks there are by name of their coroutine, and ``objects``, how many Python keeps track of.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from job_service import log_output, process
from job_service.settings import load


async def _run(file: Path) -> None:
    def report() -> None:
        gc.collect()
        names = Counter(
            getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()
        )
        written = file.with_suffix(".new")
        written.write_text(json.dumps({"tasks": names, "objects": len(gc.get_objects())}))
        written.rename(file)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, report)
    await process.run(settings)


if __name__ == "__main__":
    settings = load()
    log_output.configure(settings.log_level, settings.log_format)
    asyncio.run(_run(Path(sys.argv[1])), debug=os.environ.get("PYTHONASYNCIODEBUG") == "1")
