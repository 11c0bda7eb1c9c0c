"""Values of rows as they are in messages."""

from datetime import UTC, datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from job_service.api.encode import timestamp

NEPAL = timezone(timedelta(hours=5, minutes=45))


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(2026, 3, 1, 1, 2, 3, 456_789, tzinfo=NEPAL))
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
def test_a_moment_is_what_protobuf_makes_of_it(moment: datetime) -> None:
    expected = Timestamp()
    expected.FromDatetime(moment)
    assert timestamp(moment) == expected


def test_no_moment_is_no_message() -> None:
    assert timestamp(None) is None
