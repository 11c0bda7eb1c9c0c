"""The requests that other tests take for valid are."""

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from tests.every_method import METHODS, start_call
from tests.jobs_protocol import refused
from tests.valid_requests import ValidRequests


async def test_every_rpc_answers_its_valid_request(
    channel: grpc.aio.Channel, subtests: pytest.Subtests
) -> None:
    requests = await ValidRequests(channel, "box-1").ready()
    for method in METHODS:
        with subtests.test(method.name):
            sent = await requests.of(method.name)
            assert {type(one).DESCRIPTOR for one in sent} == {method.input_type}
            if method.name == "GetArtifactUrl":
                said = await refused(start_call(channel, method, sent, timeout=20))
                assert said.reason == "NO_ARTIFACT_URLS"  # of a directory
            else:
                await first_answer(channel, method, sent)


async def first_answer(channel: grpc.aio.Channel, method: MethodDescriptor, sent: object) -> object:
    call = start_call(channel, method, sent, timeout=20)  # type: ignore[arg-type]
    if not method.server_streaming:
        return await call
    async for message in call:
        call.cancel()
        return message
    raise AssertionError("no message")
