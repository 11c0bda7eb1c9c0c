"""ModelService: what can be generated with."""

import base64
import json
from typing import Any, Final

import grpc
from generation_jobs.v1 import model_service_pb2 as pb
from generation_jobs.v1 import model_service_pb2_grpc

from job_service.api.encode import timestamp
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.queue.fleet import Fleet
from job_service.store.fleet_rows import FleetRows
from job_service.store.models import ModelQuery, ModelRow, ModelStore

Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_PAGE: Final = 200
_TYPES: Final = {
    pb.MODEL_TYPE_CHECKPOINT: "checkpoint",
    pb.MODEL_TYPE_LORA: "lora",
    pb.MODEL_TYPE_VAE: "vae",
    pb.MODEL_TYPE_SAMPLER: "sampler",
    pb.MODEL_TYPE_SCHEDULER: "scheduler",
}
_TYPES_TO_WIRE: Final = {word: wire for wire, word in _TYPES.items()}


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Serves clients that let a user choose a model."""

    def __init__(self, *, models: ModelStore, rows: FleetRows, fleet: Fleet) -> None:
        self._models = models
        self._rows = rows
        self._fleet = fleet

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        checks = FieldChecks()
        query = _query(checks, request)
        checks.raise_if_wrong()
        found = await self._models.list_models(query)
        page, more = found[: query.limit - 1], len(found) == query.limit
        loaded = await self._loaded_in()
        response = pb.ListModelsResponse(
            models=(_model(row, loaded.get(row.name, [])) for row in page)
        )
        if more:
            response.next_page_token = _token(page[-1])
        return response

    async def RefreshModels(
        self, request: pb.RefreshModelsRequest, context: Context
    ) -> pb.RefreshModelsResponse:
        workers = await self._rows.workers(include_gone=False)
        await self._fleet.ask_for_catalogues()
        return pb.RefreshModelsResponse(workers_asked=len(workers))

    async def _loaded_in(self) -> dict[str, list[str]]:
        """The ComfyUIs that have a checkpoint in memory, by checkpoint."""
        loaded: dict[str, list[str]] = {}
        for worker in await self._rows.workers(include_gone=False):
            for backend, checkpoint in sorted((worker.loaded or {}).items()):
                if checkpoint is not None:
                    loaded.setdefault(checkpoint, []).append(backend)
        return loaded


def _query(checks: FieldChecks, request: pb.ListModelsRequest) -> ModelQuery:
    kind = checks.enum("type", request.type, _TYPES) if request.type else None
    page_size = checks.integer("page_size", request.page_size, low=0, high=limits.MAX_PAGE)
    return ModelQuery(
        type=kind,
        search=checks.text("search", request.search, longest=limits.MAX_NAME),
        active=request.active if request.HasField("active") else None,
        worker=checks.text("worker", request.worker, longest=limits.MAX_WORD) or None,
        limit=(page_size or _DEFAULT_PAGE) + 1,
        after=_after(checks, request.page_token),
    )


def _token(last: ModelRow) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.type, last.name]).encode()).decode()


def _after(checks: FieldChecks, token: str) -> tuple[str, str]:
    if not token:
        return "", ""
    try:
        kind, name = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        kind = name = None
    if not isinstance(kind, str) or not isinstance(name, str):
        checks.wrong("page_token", "is not a token of this service")
        return "", ""
    checks.text("page_token", kind + name, longest=2 * limits.MAX_NAME)
    return kind, name


def _model(row: ModelRow, loaded_in: list[str]) -> pb.Model:
    return pb.Model(
        id=row.id,
        name=row.name,
        type=_TYPES_TO_WIRE[row.type],
        active=bool(row.workers),
        workers=row.workers,
        loaded_in=loaded_in if row.type == "checkpoint" else (),
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        description=row.description,
    )
