"""Rows that did not come through CreateJob, such as those of the former system."""

import json
from decimal import Decimal
from typing import Any

import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import field_mask_pb2

from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql


@pytest.mark.parametrize(
    "number", ["1.00000000000000000001", "1.10", "1e-7", "1e400", "-1e5000", "9007199254740993"]
)
async def test_numbers_in_params_are_answered_as_they_are(
    client: ProtocolClient, sql: Sql, number: str
) -> None:
    made = await client.create(params_json='{"style": "oil"}')
    await sql.execute(
        f"UPDATE generation_jobs SET params = params || '{{\"n\": [{number}]}}'".encode()
    )

    read = await client.get(made.id)
    assert exact(read.params_json) == {"style": "oil", "n": [Decimal(number)]}
    (listed,) = (await client.list_jobs()).jobs
    assert listed.params_json == read.params_json


async def test_an_update_leaves_numbers_as_they_are(client: ProtocolClient, sql: Sql) -> None:
    made = await client.create()
    await sql.execute(b"UPDATE generation_jobs SET params = '{\"n\": 1.00000000000000000001}'")
    request = pb.UpdateJobRequest(
        job=job_pb2.GenerationJob(id=made.id, width=512),
        update_mask=field_mask_pb2.FieldMask(paths=["width"]),
    )
    updated = (await client.stub.UpdateJob(request, timeout=20)).job
    assert updated.width == 512
    assert exact(updated.params_json) == {"n": Decimal("1.00000000000000000001")}


def exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
