"""``python -m job_service.all_in_one up`` or ``demo``."""

import argparse
import asyncio
import sys

from job_service.all_in_one.demo import demo
from job_service.all_in_one.up import up
from job_service.cannot_run import CannotRunError


def main() -> int:
    """Run what was asked for and answer the exit code."""
    parser = argparse.ArgumentParser(prog="python -m job_service.all_in_one", description=__doc__)
    parser.add_argument("what", choices=("up", "demo"))
    what = parser.parse_args().what
    try:
        if what == "demo":
            return asyncio.run(demo())
        asyncio.run(up())
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
