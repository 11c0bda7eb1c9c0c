"""Puts the service together and serves it until it is told to stop."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import grpc
import structlog
from generation_jobs.v1 import (
    generation_job_service_pb2,
    generation_job_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from grpc_health.v1 import health, health_pb2_grpc

from job_service.access.certificates import Certificates
from job_service.access.token_book import TokenBook
from job_service.api.call_budget import CallBudget
from job_service.api.call_kind import CallKind
from job_service.api.call_observer import CallObserver
from job_service.api.gate import Gate
from job_service.api.generation_jobs import GenerationJobServicer
from job_service.api.health import Health
from job_service.api.interceptor import CallInterceptor
from job_service.api.methods_by_name import methods_by_name
from job_service.api.models import ModelServicer
from job_service.api.operators import OperatorServicer
from job_service.api.presenter import JobPresenter
from job_service.api.queue_report import QueueReport
from job_service.api.recipe_lookup import RecipeLookup
from job_service.api.server_reflection import serve_reflection
from job_service.api.workers import WorkerServicer
from job_service.artifacts.input_uploads import InputUploads
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.artifacts.result_uploads import ResultUploads
from job_service.artifacts.sweeper import Sweeper
from job_service.cannot_run import CannotRunError
from job_service.events.change_feed import ChangeFeed
from job_service.events.hub import Hub, RouteKeysAdded
from job_service.events.job_feed import JobFeed
from job_service.events.jobs_watch import JobsWatches
from job_service.events.progress_board import ProgressBoard
from job_service.hanging_up import hang_up
from job_service.jobs.creation_rate import CreationRate
from job_service.monitoring.counted import Counted
from job_service.monitoring.monitored import monitored
from job_service.monitoring.queue_figures import QueueFigures
from job_service.queue.admission import Admission
from job_service.queue.background import running_loops
from job_service.queue.claim_round import ClaimRound
from job_service.queue.dispatcher import Dispatcher
from job_service.queue.fleet import Fleet
from job_service.queue.heartbeats import Heartbeats
from job_service.queue.other_replicas import connected
from job_service.queue.positions import QueuePositions
from job_service.queue.signature_cache import SignatureCache
from job_service.queue.sweeping import Retention, Sweeping
from job_service.queue.upkeep import Upkeep
from job_service.settings import Settings
from job_service.store.admission import AdmissionStore, UserCaps
from job_service.store.artifacts import ArtifactTable
from job_service.store.changes import ChangeStore
from job_service.store.completions import CompletionStore
from job_service.store.creation import JobCreation
from job_service.store.database import Database
from job_service.store.edits import EditStore
from job_service.store.endings import EndingStore
from job_service.store.fleet_rows import FleetRows
from job_service.store.inputs import InputTable
from job_service.store.job_stats import JobStatsStore
from job_service.store.jobs import JobStore
from job_service.store.leases import LeaseStore
from job_service.store.listing import ListingStore
from job_service.store.models import ModelStore
from job_service.store.node_signatures import NodeSignatureTable
from job_service.store.pauses import PauseStore
from job_service.store.previews import PreviewTable
from job_service.store.queue_positions import QueuePositionStore
from job_service.store.queue_stats import QueueStatsStore
from job_service.store.retention import RetentionStore
from job_service.store.route_keys import RouteKeys
from job_service.store.templates import TemplateStore
from job_service.store.tokens import TokenTable
from job_service.store.upkeep import UpkeepStore
from job_service.store.workers import WorkerStore
from job_service.transport import channel_options

_log = structlog.get_logger()

#: Seconds that short calls have to end when longer ones have used up the grace period.
_LAST_CALLS: Final = 0.5

#: Seconds that a request may be on its way.
_ON_THE_WAY: Final = 0.1

_SERVICES = [
    pb.DESCRIPTOR.services_by_name[name].full_name
    for pb, name in (
        (generation_job_service_pb2, "GenerationJobService"),
        (model_service_pb2, "ModelService"),
        (operator_service_pb2, "OperatorService"),
        (worker_service_pb2, "WorkerService"),
    )
]


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let calls finish within the grace period."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as address:
        _log.info("job_service listening", address=address)
        await stop.wait()
        _log.info("shutting down", grace_seconds=settings.shutdown_grace.total_seconds())
    _log.info("stopped")


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """The service, running while the block is; yields the address it listens on.

    ``settings.database_url`` must be set, and the schema up to date. Raises CannotRunError when
    the address cannot or may not be listened on.
    """
    assert settings.database_url is not None
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    try:
        async with _serving(settings, database) as address:
            yield address
    finally:
        await database.close()


@asynccontextmanager
async def _serving(settings: Settings, database: Database) -> AsyncIterator[str]:
    hub = Hub()
    certificates, book = _protection(settings, hub, database)
    ttl, catch_up = settings.lease_ttl, settings.catch_up_interval.total_seconds()
    objects = _artifact_store(settings.artifact_store)
    artifacts = ArtifactTable(database)
    inputs = InputTable(database, settings.input_retention)
    route_keys = RouteKeys(database, on_new=lambda: hub.publish(RouteKeysAdded()))
    caps = UserCaps(settings.max_pending_per_user, settings.max_running_per_user)
    counted = Counted()
    jobs = JobStore(database, caps, counted)
    leases = LeaseStore(database, ttl)
    completions = CompletionStore(database, counted)
    endings = EndingStore(database, counted)
    workers = WorkerStore(database)
    pauses = PauseStore(database)
    models = ModelStore(database, ttl)
    fleet_rows = FleetRows(database, ttl)
    signatures = NodeSignatureTable(database)
    fleet = Fleet(
        hub, workers, endings, route_keys, pauses, models, SignatureCache(signatures), ttl
    )
    board = ProgressBoard(hub, leases)
    feed = JobFeed(hub, jobs, catch_up)
    changes = ChangeStore(database)
    change_feed = ChangeFeed(hub, changes, catch_up)
    listing = ListingStore(database)
    positions = QueuePositions(hub, QueuePositionStore(database), fleet)
    dispatcher = Dispatcher(hub, ClaimRound(database, fleet, route_keys, ttl), endings, catch_up)
    healthy = Health(_SERVICES)
    upkeep = Upkeep(
        hub,
        UpkeepStore(database, caps, counted),
        endings,
        board,
        ttl,
        on_database=healthy.database,
    )
    sweeping = Sweeping(
        hub,
        jobs,
        RetentionStore(database),
        changes,
        Sweeper(artifacts, inputs, objects),
        workers,
        signatures,
        PreviewTable(database),
        Retention(
            tombstones=settings.tombstone_retention,
            workers=settings.worker_retention,
            artifacts=settings.artifact_retention,
            jobs=settings.job_retention,
        ),
    )
    templates = TemplateStore(database)
    presenter = JobPresenter(database, board, fleet)
    budget = CallBudget(settings.call_limits)
    queue_report = QueueReport(QueueStatsStore(database, ttl), fleet)
    server = grpc.aio.server(
        interceptors=[
            CallInterceptor(
                Gate(book),
                CallObserver(budget, counted.call_ended),
                budget,
                settings.max_message_bytes,
            )
        ],
        options=channel_options(settings),
    )
    methods = methods_by_name(server)
    generation_job_service_pb2_grpc.add_GenerationJobServiceServicer_to_server(
        GenerationJobServicer(
            creation=JobCreation(database, route_keys, caps, counted, dispatcher.awaits),
            creation_rate=CreationRate(
                settings.create_rate_per_user, settings.create_burst_per_user, time.monotonic
            ),
            jobs=jobs,
            edits=EditStore(database, route_keys, caps, counted),
            listing=listing,
            templates=templates,
            recipes=RecipeLookup(
                settings.workflow_rules,
                templates,
                inputs,
                fleet,
                models_wait=not settings.limits.refuse_unknown_models,
            ),
            artifacts=artifacts,
            objects=objects,
            uploads=InputUploads(inputs, objects, settings.max_input_bytes),
            presenter=presenter,
            feed=feed,
            watches=JobsWatches(hub, change_feed, changes, jobs, listing),
            positions=positions,
            board=board,
            job_stats=JobStatsStore(database),
            queue_report=queue_report,
            hub=hub,
            bounds=settings.limits,
            keep_alive=settings.keep_alive.total_seconds(),
        ),
        methods,
    )
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(
        WorkerServicer(
            installation=await workers.installation(),
            fleet=fleet,
            dispatcher=dispatcher,
            heartbeats=Heartbeats(hub, fleet, leases, endings, ttl),
            completions=completions,
            endings=endings,
            board=board,
            uploads=ResultUploads(artifacts, completions, objects),
            inputs=inputs,
            objects=objects,
            hub=hub,
            ttl=ttl,
            max_artifact_bytes=settings.max_artifact_bytes,
        ),
        methods,
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelServicer(models=models, rows=fleet_rows, fleet=fleet), methods
    )
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(
        OperatorServicer(
            database=database,
            jobs=jobs,
            endings=endings,
            rows=fleet_rows,
            fleet=fleet,
            pauses=pauses,
            presenter=presenter,
            positions=positions,
            board=board,
            hub=hub,
        ),
        methods,
    )
    health_pb2_grpc.add_HealthServicer_to_server(healthy.servicer, methods)
    if settings.serves_reflection:
        serve_reflection(methods, [*_SERVICES, health.SERVICE_NAME])

    address = _bound(server, settings.listen, certificates)
    async with (
        running_loops(
            {
                "dispatcher": dispatcher.run,
                "upkeep": upkeep.run,
                "sweeping": sweeping.run,
                "admission": Admission(hub, AdmissionStore(database, caps)).run,
                "catch-up": feed.catch_up,
                "changes": change_feed.run,
                "queue positions": positions.run,
                **({} if book is None else {"tokens": book.run}),
                **({} if certificates is None else {"certificates": certificates.run}),
            }
        ),
        connected(hub, database, settings.listens_to, fleet, board, catch_up),
        monitored(
            settings.metrics_listen,
            counted,
            QueueFigures(queue_report.state, settings.metrics_interval),
            database,
            budget,
            healthy,
        ),
        _answering(server, address, budget, hub, healthy, settings.shutdown_grace),
    ):
        yield address


@asynccontextmanager
async def _answering(
    server: grpc.aio.Server,
    address: str,
    budget: CallBudget,
    hub: Hub,
    health: Health,
    grace: timedelta,
) -> AsyncIterator[None]:
    """Answer calls while the block is open, then let them finish within the grace period."""
    await server.start()
    await health.database(reachable=True)
    try:
        yield
    finally:
        await health.stopping()
        hub.stop()
        await _drain(budget, grace.total_seconds())
        hang_up(int(address.rpartition(":")[2]))
        await server.stop(None)


async def _drain(budget: CallBudget, seconds: float) -> None:
    """Let calls end, short ones being served to the last, then refuse whatever comes."""
    began = time.monotonic()
    long = CallKind.HELD, CallKind.TRANSFER
    budget.close(*long)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await budget.until_left(*long)
    is_busy = budget.is_busy
    budget.close(CallKind.SHORT)
    left = began + seconds - time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(max(left, _LAST_CALLS)):
            await budget.until_left(*CallKind)
            if is_busy:  # whatever is on its way is refused as well
                await asyncio.sleep(_ON_THE_WAY)
                await budget.until_left(*CallKind)


def _artifact_store(url: str) -> ObjectStoreOfArtifacts:
    try:
        return ObjectStoreOfArtifacts.from_url(url)
    except (OSError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise CannotRunError(f"JOB_SERVICE_ARTIFACT_STORE cannot be used: {why}") from error


def _protection(
    settings: Settings, hub: Hub, database: Database
) -> tuple[Certificates | None, TokenBook | None]:
    """What to listen with and who is known; None: in the clear, and no token is asked for.

    Raises CannotRunError: a file cannot be used, or nobody may listen like this.
    """
    why_not = settings.why_not_listen()
    if why_not is not None:
        raise CannotRunError(why_not)
    if settings.insecure_listen:
        _log.warning("whoever reaches the port can read and change every job, as was agreed to")
    files = settings.certificate_files
    certificates = None if files is None else Certificates(files)
    if not settings.asks_for_tokens:
        return certificates, None
    return certificates, TokenBook(hub, TokenTable(database), settings.tokens_file)


def _bound(server: grpc.aio.Server, listen: str, certificates: Certificates | None) -> str:
    """Listen, and answer the address with the port that was taken for 0."""
    try:
        if certificates is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, certificates.credentials())
    except RuntimeError as error:
        raise CannotRunError(
            f"cannot listen on {listen}: another process does, or this machine has no such address"
        ) from error
    return f"{listen.rpartition(':')[0]}:{port}"
