"""What job_service wants of the worker as a whole."""

from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.worker.directives import Directives
from comfy_worker.worker.lease_book import LeaseBook


def test_an_operator_pauses_and_resumes_the_worker() -> None:
    resumed: list[bool] = []
    directives = Directives(
        LeaseBook(depth=2), on_resume=lambda: resumed.append(True), on_refresh=lambda: None
    )
    directives.follow([pb.WORKER_DIRECTIVE_DRAIN])
    assert directives.is_paused
    assert not resumed
    directives.follow([pb.WORKER_DIRECTIVE_DRAIN])
    directives.follow([])
    assert not directives.is_paused
    assert resumed == [True]


def test_a_refresh_does_not_pause_and_unknown_directives_are_ignored() -> None:
    refreshed: list[bool] = []
    directives = Directives(
        LeaseBook(depth=2), on_resume=lambda: None, on_refresh=lambda: refreshed.append(True)
    )
    directives.follow([pb.WORKER_DIRECTIVE_REFRESH_CATALOGUE, 99])
    assert not directives.is_paused
    assert refreshed == [True]


def test_verdicts_on_leases_that_are_not_held_are_out_of_date() -> None:
    directives = Directives(LeaseBook(depth=2), on_resume=lambda: None, on_refresh=lambda: None)
    ref = pb.LeaseRef(job_id=1, lease_token="0b6a2b8e-6c4a-4f0c-8f0f-000000000000")
    directives.apply(
        [
            pb.LeaseVerdict(lease=ref, verdict=verdict)
            for verdict in (pb.VERDICT_LOST, pb.VERDICT_CANCEL, pb.VERDICT_UNCLAIMED)
        ]
    )
