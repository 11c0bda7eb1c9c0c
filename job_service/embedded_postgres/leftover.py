"""A server that outlived the job_service which started it.

Needs psutil, which comes with the extra ``embedded``.
"""

import os
import select
import signal
import sys
from pathlib import Path
from typing import Final

import psutil

from job_service.embedded_postgres.cluster import EmbeddedPostgresError

SHUTDOWN_SECONDS: Final = 30


def end_leftover(cluster: Path) -> None:
    """Stop a server that outlived the service which started it, and clear its pid file.

    The caller holds the directory's lock, so nobody alive wants that server. A pid that belongs
    to some other program by now (a restarted container counts from 1 again) is left alone.

    Raises:
        EmbeddedPostgresError: the server does not end.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="utf-8", errors="replace").splitlines()[0])
        process = psutil.Process(pid)
        if str(cluster) in " ".join(process.cmdline()) and not _stop(process):
            raise EmbeddedPostgresError(
                f"an earlier PostgreSQL (process {pid}) still runs on {cluster} and does not stop"
            )
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        pass  # no file, an unfinished one, or one whose process is gone
    pid_file.unlink(missing_ok=True)


def _stop(server: psutil.Process) -> bool:
    """Fast shutdown, then without a checkpoint; answers whether it ended."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        server.send_signal(how)
        if _ends(server):
            return True
    return False


def _ends(server: psutil.Process) -> bool:
    if sys.platform != "linux":
        return bool(psutil.wait_procs([server], timeout=SHUTDOWN_SECONDS)[0])
    # Also tells the end of a process that nobody reaps, as in a container without an init.
    descriptor = os.pidfd_open(server.pid)
    try:
        return bool(select.select([descriptor], [], [], SHUTDOWN_SECONDS)[0])
    finally:
        os.close(descriptor)
