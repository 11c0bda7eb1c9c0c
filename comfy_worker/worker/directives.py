"""What job_service wants of the worker as a whole, and of single leases."""

from collections.abc import Callable, Iterable
from functools import partial

import structlog
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.worker.lease_book import LeaseBook

log = structlog.get_logger(__name__)


class Directives:
    """Carries out verdicts and directives.

    ``is_paused``: an operator wants no more jobs taken; ``on_resume`` is called when that
    ends, ``on_refresh`` when the catalogues are to be reported again.
    """

    def __init__(
        self, book: LeaseBook, *, on_resume: Callable[[], None], on_refresh: Callable[[], None]
    ) -> None:
        self.is_paused = False
        self._book = book
        self._on_resume = on_resume
        self._on_refresh = on_refresh

    def follow(self, directives: Iterable[int]) -> None:
        """Act on directives for the worker, of which the absent ones count too."""
        wanted = set(directives)
        is_paused = pb.WORKER_DIRECTIVE_DRAIN in wanted
        if is_paused != self.is_paused:
            self.is_paused = is_paused
            log.info("an operator pauses the worker" if is_paused else "the worker goes on")
            if not is_paused:
                self._on_resume()
        if pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE in wanted:
            self._on_refresh()

    def apply(self, verdicts: Iterable[pb.LeaseVerdict]) -> None:
        """Act on verdicts; those on leases that are not held any more are out of date.

        UNCLAIMED leases need nothing here: a LeaseJobs call whose answer got lost is
        repeated by whoever made it, and what nobody claims the service takes back.
        """
        for verdict in verdicts:
            run = self._book.find(verdict.lease.lease_token)
            if run is None:
                continue
            if verdict.verdict == pb.VERDICT_CANCEL:
                run.cancel()
            elif verdict.verdict == pb.VERDICT_LOST:
                run.lose(is_adopted=partial(self._book.holds_newer_attempt, run))
