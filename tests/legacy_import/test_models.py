"""The former list of models comes along."""

import grpc
import psycopg
import pytest
from generation_jobs.v1 import model_service_pb2, model_service_pb2_grpc

from job_service import server
from tests.legacy_import.conftest import Settle
from tests.legacy_import.reading import settings_for
from tests.legacy_import.samples import SHAPES, sample

pytestmark = pytest.mark.former


async def test_models_are_listed_with_what_was_written_about_them(settle: Settle) -> None:
    move = settle(sample(SHAPES["B"]))
    with psycopg.connect(move.old) as connection:
        connection.execute(
            """
            INSERT INTO available_models (name, type, file_path, description, is_active) VALUES
                ('dream.safetensors', 'checkpoint', '/m/dream', 'dreamy, 夢のような', true),
                ('detail.safetensors', 'lora', '/m/detail', NULL, false),
                ('detail.safetensors', 'checkpoint', NULL, '', NULL),
                ('odd.pt', 'embedding', '/m/odd', 'of no type that we have', true),
                ('', 'lora', '/m/nameless', 'has no name', true)
            """
        )
    move.run("--cutover")
    async with (
        server.running(settings_for(move.target, move.folder)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        answer = await models.ListModels(model_service_pb2.ListModelsRequest(), timeout=20)
    checkpoint, lora = (
        model_service_pb2.MODEL_TYPE_CHECKPOINT,
        model_service_pb2.MODEL_TYPE_LORA,
    )
    assert {(one.name, one.type, one.description) for one in answer.models} == {
        ("sdxl.safetensors", checkpoint, ""),
        ("dream.safetensors", checkpoint, "dreamy, 夢のような"),
        ("detail.safetensors", lora, ""),
        ("detail.safetensors", checkpoint, ""),
    }
    again = move.run("--cutover")
    assert again.report is not None
    assert again.report["verified"]
