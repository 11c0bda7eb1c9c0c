"""What tests of the running service share."""

import grpc
import pytest

from tests.operator_protocol import ProtocolOperator


@pytest.fixture
def operator(channel: grpc.aio.Channel) -> ProtocolOperator:
    """An operator of the running job_service."""
    return ProtocolOperator(channel)
