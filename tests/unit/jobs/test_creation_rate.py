"""However a user spreads them, no more jobs than the burst and what the rate adds."""

import math
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_service.jobs.creation_rate import CreationRate
from job_service.jobs.refusals import Refusal, RefusedError

ANNA, BERT = uuid4(), uuid4()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rate: CreationRate, *owners: UUID) -> bool:
    try:
        rate.take(owners)
    except RefusedError as error:
        return error.refusal is not Refusal.QUOTA_EXCEEDED
    return True


@given(
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60),
)
def test_no_more_than_the_burst_and_the_rate_times_the_time(
    rate: float, burst: int, steps: Sequence[tuple[float, int]]
) -> None:
    clock = Clock()
    creation = CreationRate(rate, burst, clock)
    created = 0
    for pause, jobs in steps:
        clock.now += pause
        count = min(jobs, burst)
        if taken(creation, *[ANNA] * count):
            created += count
    assert created <= burst + rate * clock.now + 1e-6


@given(rate=st.floats(0.01, 1000), burst=st.integers(1, 100), jobs=st.integers(1, 1000))
def test_whoever_waits_as_long_as_told_is_let_through(rate: float, burst: int, jobs: int) -> None:
    clock = Clock()
    creation = CreationRate(rate, burst, clock)
    assert taken(creation, *[ANNA] * jobs), "a full bucket takes a batch of any size"
    with pytest.raises(RefusedError) as refused:
        creation.take([ANNA] * burst)
    delay = refused.value.retry_delay
    assert delay is not None
    clock.now = math.nextafter(delay.total_seconds(), math.inf) + 1e-3
    assert taken(creation, *[ANNA] * burst)


def test_users_do_not_wait_for_each_other() -> None:
    creation = CreationRate(1, 2, Clock())
    assert taken(creation, ANNA, ANNA)
    assert not taken(creation, ANNA)
    assert taken(creation, BERT)


def test_a_batch_of_which_one_user_has_too_many_takes_nothing_from_the_others() -> None:
    creation = CreationRate(1, 2, Clock())
    assert taken(creation, ANNA, ANNA)
    assert not taken(creation, BERT, BERT, ANNA)
    assert taken(creation, BERT, BERT)


def test_zero_is_no_limit() -> None:
    creation = CreationRate(0, 1, Clock())
    assert all(taken(creation, *[ANNA] * 1000) for _ in range(100))
