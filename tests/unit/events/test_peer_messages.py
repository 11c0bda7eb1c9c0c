"""What replicas tell one another fits into notifications and is understood."""

from typing import Final

import pytest
from generation_jobs.v1 import job_pb2
from hypothesis import given
from hypothesis import strategies as st

from job_service.events import peer_messages as messages
from job_service.events.hub import (
    CataloguesReported,
    CatchUp,
    DrainChanged,
    JobChanged,
    PausesChanged,
    WorkAvailable,
    WorkerConcerned,
    WorkerRegistered,
)
from job_service.store.notifications import MAX_PAYLOAD

ids = st.integers(min_value=1, max_value=2**63 - 1)
#: Names of workers may be of any characters but NUL, which PostgreSQL takes in no text.
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=63)
progress: Final = st.builds(
    lambda job_id, fraction, node: messages.Progress.of(
        job_id, job_pb2.JobProgress(fraction=fraction, node_class=node, attempt=3)
    ),
    ids,
    st.floats(0, 1),
    names,
)
items = st.lists(
    st.one_of(
        st.builds(JobChanged, ids),
        st.builds(WorkAvailable, st.none() | ids),
        st.builds(WorkerConcerned, ids),
        st.builds(WorkerRegistered, names, ids),
        st.builds(DrainChanged, ids, st.booleans()),
        st.builds(CataloguesReported, names),
        st.sampled_from([PausesChanged(), CatchUp(), messages.Hello(), messages.Leaving()]),
        st.builds(messages.ProgressWanted, st.none() | ids),
        st.builds(messages.PreviewsWanted, ids),
        progress,
    ),
    max_size=400,
)


@given(items)
def test_everything_that_is_said_is_understood(said: list[object]) -> None:
    payloads = messages.payloads("9f86d081", said)
    assert all(len(payload.encode()) <= MAX_PAYLOAD for payload in payloads)
    assert not any("\0" in payload for payload in payloads)
    parsed = [messages.parsed(payload) for payload in payloads]
    assert {message.sender for message in parsed} == {"9f86d081"}
    understood = [item for message in parsed for item in message.items]
    assert sorted(map(repr, understood)) == sorted(map(repr, said))


def test_few_payloads_hold_many_jobs() -> None:
    jobs = [JobChanged(10_000_000 + n) for n in range(2_000)]
    payloads = messages.payloads("9f86d081", jobs)
    assert len(payloads) == 3
    assert [item for one in payloads for item in messages.parsed(one).items] == jobs


def test_a_sign_of_life_is_short() -> None:
    assert messages.payloads("9f86d081", []) == ['{"from":"9f86d081"}']


def test_progress_arrives_as_it_was() -> None:
    reported = job_pb2.JobProgress(fraction=0.25, step=5, steps=20, node_class="KSampler")
    (payload,) = messages.payloads("9f86d081", [messages.Progress.of(7, reported)])
    (item,) = messages.parsed(payload).items
    assert isinstance(item, messages.Progress)
    assert item.message == reported


def test_kinds_of_a_newer_replica_are_left_out() -> None:
    message = messages.parsed('{"from":"9f86d081","job":[5],"weather":[["fine",20]],"version":9}')
    assert message.items == [JobChanged(5)]


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "hello",
        "[]",
        "7",
        "{}",
        "[" * 7_000,
        '{"from":7}',
        '{"from":"a","job":[[1,2]]}',
        '{"from":"a","job":[{"id":1}]}',
        '{"from":"a","drain":[5]}',
        '{"from":"a","drain":[[5]]}',
        '{"from":"a","job":[5',
    ],
)
def test_what_makes_no_sense_is_said_to(payload: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any reason will do
        messages.parsed(payload)


@given(st.text())
def test_nothing_that_is_notified_does_more_than_make_no_sense(payload: str) -> None:
    try:
        messages.parsed(payload)
    except ValueError:
        return


@pytest.mark.parametrize("content", ["!", "AAAA", "not base64 at all"])
def test_progress_that_makes_no_sense_is_left_out(content: str) -> None:
    assert messages.Progress(7, content).message is None
