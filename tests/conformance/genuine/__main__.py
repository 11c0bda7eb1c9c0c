"""Installs a genuine ComfyUI and, with --serve, runs it in the foreground."""

import argparse
import logging
import signal
import sys
from pathlib import Path

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
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.genuine", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="run until SIGTERM or SIGINT")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE_DIRECTORY, metavar="DIR")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="outputs and log; default: CACHE/served"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        installation = install(options.cache)
        if not options.serve:
            print(f"ComfyUI is installed in {installation.root}")
            return 0
        directory = options.directory or installation.root / "served"
        with GenuineServer(installation, directory, port=options.port) as server:
            print(f"{server.url} serves {CHECKPOINT} and {LORA}; log: {server.log}", flush=True)
            code = server.wait()
            print(f"ComfyUI ended by itself with {code}; see {server.log}", file=sys.stderr)
            return 1
    except (InstallationError, ServerStartError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
