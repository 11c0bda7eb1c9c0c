"""An outage is told of when it begins, from time to time, and when it ends."""

import re
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import Final

import structlog
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.outage import Outage

#: Seconds until the next call is over, and whether it fails.
CALLS: Final = st.lists(st.tuples(st.floats(0.01, 45.0), st.booleans()), max_size=80)


def told(calls: Sequence[tuple[float, bool]]) -> list[tuple[float, structlog.typing.EventDict]]:
    """The lines that calls make, each with its time."""
    now = 0.0
    lines = []
    with structlog.testing.capture_logs() as log:
        outage = Outage(
            structlog.get_logger(), begins="begins", lasts="lasts", ends="ends", clock=lambda: now
        )
        for seconds, fails in calls:
            now += seconds
            if fails:
                outage.failed("refused")
            else:
                outage.over()
            lines += [(now, line) for line in log]
            log.clear()
    return lines


def test_one_outage_is_a_line_when_it_begins_a_line_from_time_to_time_and_one_when_it_ends() -> (
    None
):
    lines = told([(1.0, True)] * 70 + [(1.0, False)] * 5)
    assert lines == [
        (1.0, {"event": "begins", "log_level": "warning", "reason": "refused"}),
        (31.0, {"event": "lasts", "log_level": "warning", "reason": "refused", "seconds": 30}),
        (61.0, {"event": "lasts", "log_level": "warning", "reason": "refused", "seconds": 60}),
        (71.0, {"event": "ends", "log_level": "info", "seconds": 70}),
    ]


def test_what_never_fails_is_no_news() -> None:
    assert told([(1.0, False)] * 10) == []


@given(CALLS)
def test_no_two_warnings_come_within_half_a_minute(calls: list[tuple[float, bool]]) -> None:
    at = [time for time, line in told(calls) if line["log_level"] == "warning"]
    assert all(later - earlier >= 30.0 for earlier, later in pairwise(at))


@given(CALLS)
def test_every_outage_that_is_told_of_ends_with_a_line_and_no_other_does(
    calls: list[tuple[float, bool]],
) -> None:
    events = " ".join(line["event"] for _, line in told([*calls, (1.0, False)]))
    assert re.fullmatch(r"((begins|lasts) (lasts )*ends ?)*", events)


@given(CALLS)
def test_no_outage_of_half_a_minute_goes_untold(calls: list[tuple[float, bool]]) -> None:
    warned = [time for time, line in told(calls) if line["log_level"] == "warning"]
    times = accumulate(seconds for seconds, _ in calls)
    by_outcome = groupby(zip(times, calls, strict=True), key=lambda one: one[1][1])
    for fails, together in by_outcome:
        at = [time for time, _ in together]
        if fails and at[-1] - at[0] >= 30.0:
            assert any(at[0] <= time <= at[-1] for time in warned)
