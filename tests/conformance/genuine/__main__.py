"""Installs a genuine ComfyUI and, with --serve, runs it in the foreground."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tests.conformance.genuine import (
    CHECKPOINT,
    DEFAULT_CACHE_DIRECTORY,
    LORA,
    GenuineServer,
    InstallationError,
    ServerStartError,
    install,
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.genuine", description=__doc__
    )
    parser.add_argument("--serve", action="store_true", help="run until SIGTERM or SIGINT")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE_DIRECTORY, metavar="DIR")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="outputs and log; default: CACHE/served"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Exceptions, so that pip or the server is ended before us. Success only for a server that ran.
    _on_termination(lambda number: sys.exit(128 + number))
    try:
        installation = install(options.cache)
        if not options.serve:
            print(f"ComfyUI is installed in {installation.root}")
            return 0
        directory = options.directory or installation.root / "served"
        with GenuineServer(installation, directory, port=options.port) as server:
            print(f"{server.url} serves {CHECKPOINT} and {LORA}; log: {server.log}", flush=True)
            _on_termination(lambda _: sys.exit(0))
            code = server.wait()
            print(f"ComfyUI ended by itself with {code}; see {server.log}", file=sys.stderr)
            return 1
    except (InstallationError, ServerStartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _on_termination(react: Callable[[int], NoReturn]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: react(received))


if __name__ == "__main__":
    sys.exit(main())
