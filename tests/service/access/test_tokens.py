"""Tokens: what is said to whoever has none that counts, and when what is known of them changes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
import structlog
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import worker_service_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from sqlalchemy import URL, make_url

from job_service.access import secret, token_book
from job_service.jobs.principal import Role
from job_service.settings import Settings
from job_service.store.tokens import TokenTable
from tests.jobs_protocol import CANCELLED, ProtocolClient, Refused, refusal, refused
from tests.postgres_fixture import plain_url
from tests.service.access.callers import ALICE, metadata
from tests.service.access.conftest import Connect, MakeToken
from tests.service_fixture import Sql
from tests.statements_sent import Sent, statements_sent
from tests.worker_protocol import ProtocolWorker, artifact_file


async def _said(channel: grpc.aio.Channel, *sent: tuple[str, str]) -> Refused:
    stub = ProtocolClient(channel).stub
    return await refused(stub.GetQueueStats(pb.GetQueueStatsRequest(), metadata=sent, timeout=20))


async def _ended(call: Awaitable[object]) -> Refused:
    """What a call that is being made ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async with asyncio.timeout(60):
            await call
    return refusal(error.value)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.05)


def _lookups(statements: list[Sent]) -> list[bytes]:
    """The statements that looked for a token that somebody sent."""
    return [text for text, _ in statements if b"access_tokens" in text and b"used AS" not in text]


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_book, "LOOK_EVERY_SECONDS", 0.2)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ([], "UNAUTHENTICATED"),
        ([("authorization", "Basic YWRhOnBhc3N3b3Jk")], "UNAUTHENTICATED"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "UNAUTHENTICATED"),
        ([("authorization", "Bearer ")], "TOKEN_UNKNOWN"),
        ([("authorization", "Bearer genjobs_tooshort")], "TOKEN_UNKNOWN"),
        ([("authorization", f"Bearer {'x' * 5000}")], "TOKEN_UNKNOWN"),
    ],
)
async def test_what_is_no_token_is_refused_without_a_look_at_the_database(
    channel: grpc.aio.Channel, sent: list[tuple[str, str]], reason: str
) -> None:
    with statements_sent() as statements:
        said = await _said(channel, *sent)
    assert (said.status, said.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert not _lookups(statements)


async def test_who_is_not_known_is_refused_before_the_request_is_looked_at(
    channel: grpc.aio.Channel,
) -> None:
    call: Any = channel.unary_unary("/generation_jobs.v1.GenerationJobService/CreateJob")
    assert (await refused(call(b"\xff no message", timeout=20))).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("role", "user_id", "worker"),
    [
        ("client", None, None),
        ("gateway", ALICE, None),
        ("admin", None, "box-1"),
        ("king", None, None),
    ],
)
async def test_the_table_holds_no_token_that_makes_no_sense(
    sql: Sql, role: str, user_id: UUID | None, worker: str | None
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await sql.execute(
            "INSERT INTO access_tokens (name, digest, role, user_id, worker)"
            " VALUES ('a', sha256('a'), %s, %s, %s)",
            [role, user_id, worker],
        )


async def test_tokens_that_do_not_count_are_told_why(
    channel: grpc.aio.Channel, make_token: MakeToken, table: TokenTable
) -> None:
    revoked = await make_token(Role.GATEWAY)
    assert await table.revoke(1)
    assert not await table.revoke(1)
    expired = await make_token(Role.GATEWAY, lifetime=timedelta(milliseconds=1))
    for token, reason in (
        (secret.drawn(), "TOKEN_UNKNOWN"),
        (revoked, "TOKEN_REVOKED"),
        (expired, "TOKEN_EXPIRED"),
    ):
        said = await _said(channel, *metadata(token))
        assert (said.status, said.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        assert token not in said.message


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_health_is_open_and_reflection_takes_a_token_of_any_role(
    channel: grpc.aio.Channel, make_token: MakeToken, version: str
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    ask: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def services(*sent: tuple[str, str]) -> int:
        call = ask(metadata=sent, timeout=20)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = len((await call.read()).list_services_response.service)
        await call.done_writing()
        return listed

    assert await services(*metadata(await make_token(Role.WORKER))) > 4
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await services()
    assert refusal(error.value).reason == "UNAUTHENTICATED"


async def test_a_token_is_read_once_however_often_it_is_used(
    alice: ProtocolClient, sql: Sql
) -> None:
    with statements_sent() as statements:
        job = await alice.create()
        for _ in range(20):
            await alice.get(job.id)
    assert len(_lookups(statements)) == 1

    async def noted() -> bool:
        rows = await sql.execute(
            "SELECT count(*) FROM access_tokens WHERE last_used_at > now() - interval '1 hour'"
        )
        return bool((await rows.fetchone() or (0,))[0])

    await _until(noted)


async def test_a_revoked_token_ends_its_calls(
    alice: ProtocolClient, worker: ProtocolWorker, table: TokenTable
) -> None:
    job = await alice.create(backend="elsewhere")
    async with alice.watching(job.id) as watch, alice.watching_jobs() as watch_of_all:
        held = asyncio.create_task(worker.lease(wait=50))
        beating = asyncio.create_task(worker.beat(wait=10))
        assert not (await asyncio.wait([held], timeout=0.1))[0]
        for token in await table.all():
            await table.revoke(token.id)

        for call in (watch.rest(), watch_of_all.until(lambda _: False), held):
            said = await _ended(call)
            assert (said.status, said.reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "TOKEN_REVOKED",
            )
        await asyncio.gather(beating, return_exceptions=True)
    assert (await refused(alice.stub.GetJob(pb.GetJobRequest(id=job.id)))).reason == "TOKEN_REVOKED"


async def test_an_expired_token_ends_its_watch(make_token: MakeToken, connect: Connect) -> None:
    token = await make_token(Role.CLIENT, ALICE, lifetime=timedelta(seconds=2))
    client = ProtocolClient(connect(token))
    job = await client.create()
    async with client.watching(job.id) as watch:
        assert (await _ended(watch.rest())).reason == "TOKEN_EXPIRED"


async def test_a_token_may_be_replaced_while_calls_go_on(
    make_token: MakeToken, connect: Connect, table: TokenTable
) -> None:
    before = ProtocolClient(connect(await make_token(Role.CLIENT, ALICE, name="web")))
    after = ProtocolClient(connect(await make_token(Role.CLIENT, ALICE, name="web")))
    job = await before.create()
    await table.revoke(1)
    assert (await after.get(job.id)).id == job.id

    async def is_revoked() -> bool:
        try:
            await before.get(job.id)
        except grpc.aio.AioRpcError as error:
            return refusal(error).reason == "TOKEN_REVOKED"
        return False

    await _until(is_revoked)
    assert (await after.get(job.id)).id == job.id


async def test_a_worker_works_under_the_name_its_token_is_bound_to(
    make_token: MakeToken, connect: Connect
) -> None:
    channel = connect(await make_token(Role.WORKER, worker="box-1"))
    await ProtocolWorker(channel, "box-1").report_catalogue()
    other = ProtocolWorker(channel, "box-2")
    lease = worker_service_pb2.Lease(job_id=1, lease_token=str(uuid4()))
    for call in (
        other.report_catalogue(),
        other.lease(wait=0),
        other.beat(),
        other.complete(lease),
        other.complete_with(lease, [artifact_file(lease, b"picture")]),
    ):
        said = await refused(call)
        assert (said.status, said.reason) == (grpc.StatusCode.PERMISSION_DENIED, "WRONG_WORKER")


@pytest.mark.parametrize(
    ("role", "user", "reason"),
    [
        (Role.CLIENT, str(ALICE), "ROLE_NOT_ALLOWED"),
        (Role.WORKER, str(ALICE), "ROLE_NOT_ALLOWED"),
        (Role.GATEWAY, "alice", "INVALID_FIELDS"),
        (Role.GATEWAY, "", "INVALID_FIELDS"),
    ],
)
async def test_who_may_act_for_a_user(
    channel: grpc.aio.Channel, make_token: MakeToken, role: Role, user: str, reason: str
) -> None:
    token = await make_token(role, ALICE if role is Role.CLIENT else None)
    said = await _said(channel, *metadata(token), ("x-on-behalf-of", user))
    assert said.reason == reason


@pytest.fixture
async def allow_connections(
    postgres_server: URL, database_url: str
) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """Has PostgreSQL take connections to the service's database, or end and refuse them."""
    name = make_url(database_url).database
    server = plain_url(postgres_server)
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:

        async def allow(allowed: bool) -> None:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}".encode())
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )

        yield allow
        await allow(True)


async def test_while_the_database_is_away_tokens_count_on(
    alice: ProtocolClient,
    make_token: MakeToken,
    connect: Connect,
    allow_connections: Callable[[bool], Awaitable[None]],
) -> None:
    newcomer = ProtocolClient(connect(await make_token(Role.CLIENT, ALICE)))
    job = await alice.create()
    async with alice.watching(job.id) as watch:
        with structlog.testing.capture_logs() as log:
            await allow_connections(False)

            async def is_noticed() -> bool:
                return any(one["event"] == "tokens cannot be looked at" for one in log)

            await _until(is_noticed)
            for client in (alice, newcomer):
                request = pb.GetJobRequest(id=job.id)
                assert (await refused(client.stub.GetJob(request))).reason == "DATABASE_UNAVAILABLE"
            await allow_connections(True)

        async def is_served() -> bool:
            try:
                return (await newcomer.cancel(job.id)).id == job.id
            except grpc.aio.AioRpcError as error:
                return refusal(error).reason != "DATABASE_UNAVAILABLE"

        await _until(is_served)
        assert (await watch.until(CANCELLED)).id == job.id


async def test_only_so_many_tokens_are_remembered(
    make_token: MakeToken, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_book, "_MOST_REMEMBERED", 2)
    clients = [ProtocolClient(connect(await make_token(Role.CLIENT, ALICE))) for _ in range(4)]
    job = await clients[0].create()
    async with clients[0].watching(job.id) as watch:  # whose token is not forgotten for others
        with statements_sent() as statements:
            for client in clients * 2:
                assert (await client.get(job.id)).id == job.id
        assert 3 <= len(_lookups(statements)) <= 6
        await clients[1].cancel(job.id)
        assert (await watch.until(CANCELLED)).id == job.id


class TestFile:
    """Tokens in a file, with those of the database beside them."""

    @pytest.fixture
    def tokens_file(self, tmp_path: Path) -> Path:
        return tmp_path / "tokens"

    @pytest.fixture
    def of_file(self) -> str:
        return secret.drawn()

    @pytest.fixture
    def service_settings(
        self, service_settings: Settings, tokens_file: Path, of_file: str
    ) -> Settings:
        tokens_file.write_text(
            f"# who\n\nada client sha256:{secret.digest(of_file).hex()} user={ALICE}  # hers\n"
        )
        changed = {"require_tokens": None, "tokens_file": tokens_file}
        return service_settings.model_copy(update=changed)

    async def test_both_count(
        self, of_file: str, alice: ProtocolClient, connect: Connect, channel: grpc.aio.Channel
    ) -> None:
        job = await ProtocolClient(connect(of_file)).create()
        assert (await alice.get(job.id)).id == job.id
        assert (await _said(channel)).reason == "UNAUTHENTICATED"

    async def test_what_leaves_the_file_ends_and_what_comes_counts(
        self, of_file: str, tokens_file: Path, connect: Connect
    ) -> None:
        client = ProtocolClient(connect(of_file))
        job = await client.create()
        new = secret.drawn()
        successor = ProtocolClient(connect(new))

        async def counts() -> bool:
            try:
                return bool((await successor.get(job.id)).id)
            except grpc.aio.AioRpcError as error:
                return refusal(error).reason != "TOKEN_UNKNOWN"

        async with client.watching(job.id) as watch:
            line = tokens_file.read_text()
            with structlog.testing.capture_logs() as log:

                async def is_refused() -> bool:
                    return any("line 1" in one.get("problem", "") for one in log)

                tokens_file.write_text("ada client sha256:nonsense\n")
                await _until(is_refused)
            assert (await client.get(job.id)).id == job.id  # a bad file changes nothing

            tokens_file.write_text(
                f"{line}ada client sha256:{secret.digest(new).hex()} user={ALICE}\n"
            )
            await _until(counts)
            assert (await client.get(job.id)).id == job.id  # the old one counts on

            tokens_file.write_text(tokens_file.read_text().removeprefix(line))
            assert (await _ended(watch.rest())).reason == "TOKEN_REVOKED"
        assert await counts()
