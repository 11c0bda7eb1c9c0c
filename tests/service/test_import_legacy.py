"""Former tables become jobs in place, and become what they were again when that is undone."""

import re
from pathlib import Path

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service import server
from job_service.legacy import staging
from job_service.legacy.session import ImportFailedError
from job_service.settings import Settings
from tests import former_tables
from tests.former_tables import content, execute, import_legacy, query, read
from tests.jobs_protocol import CANCELLED, COMPLETED, FAILED, PENDING, ProtocolClient, refused
from tests.worker_protocol import ProtocolWorker

STATES = pytest.mark.parametrize("state", ["A", "B", "C"])
STAGING = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'generation_jobs_%'"


@STATES
async def test_a_dry_run_reports_everything_and_writes_nothing(
    state: str, empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, state)
    before = content(url)
    await import_legacy(url, dry_run=True, report=report)
    assert content(url) == before
    assert query(url, STAGING) == [(0,)]
    told = read(report)
    assert told["found"]["state"] == state
    assert told["dry_run"]
    assert told["verified"]
    jobs = told["counts"]["generation_jobs"]
    assert jobs["before"] == jobs["after"] == 5
    assert len(told["rows"]) == sum(told["listed"].values())
    assert all(one["before"] == one["after"] for one in told["checksums"])


@STATES
async def test_what_is_at_rest_comes_first_and_the_rest_with_the_cutover(
    state: str, empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, state)
    before = content(url)
    await import_legacy(url, report=report, batch=2)
    assert content(url) == before
    waiting = read(report)["counts"]["generation_jobs"]["waiting"]
    assert waiting == {"A": 2, "B": 1, "C": 1}[state]

    execute(
        url,
        "UPDATE generation_jobs SET error_message = 'late' WHERE id = 2",
        "DELETE FROM generation_jobs WHERE id IN (5, 7)",
        "INSERT INTO generation_jobs (id, job_type, prompt, status, created_at)"
        " VALUES (6, 'video', 'late', 'pending', '2024-05-01')",
    )
    await import_legacy(url, report=report, cutover=True, batch=2)
    told = read(report)
    assert told["phase"] == "cut over"
    assert told["verified"]
    ids = [row[0] for row in query(url, "SELECT id FROM generation_jobs WHERE id < 100 ORDER BY 1")]
    assert ids == {"A": [1, 2, 3, 4, 6], "B": [1, 2, 3, 6], "C": [1, 2, 3, 6]}[state]
    assert query(url, "SELECT error_message FROM generation_jobs WHERE id = 2") == [("late",)]
    assert query(url, "SELECT count(*) FROM job_tombstones") == [(0,)]
    assert query(url, "SELECT version_num FROM alembic_version") == [("theirs",)]
    reference = query(
        url,
        "SELECT confrelid::regclass::text, confdeltype, convalidated FROM pg_constraint"
        " WHERE conrelid = 'user_notifications'::regclass AND contype = 'f'",
    )
    assert reference == [("generation_jobs", "n", True)]


@STATES
async def test_a_second_run_changes_nothing(state: str, empty_database_url: str) -> None:
    url = empty_database_url
    former_tables.build(url, state)
    await import_legacy(url, cutover=True)
    before = content(url)
    await import_legacy(url, cutover=True)
    assert content(url) == before


async def test_a_dry_run_after_the_cutover_writes_nothing(
    empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "B")
    await import_legacy(url, cutover=True)
    execute(
        url,
        "INSERT INTO legacy.generation_jobs (id, job_type, prompt, status, created_at)"
        " VALUES (70, 'image', 'too late', 'completed', '2024-05-01')",
    )
    before = content(url)
    await import_legacy(url, cutover=True, dry_run=True, report=report)
    assert content(url) == before
    assert read(report)["dry_run"]
    assert read(report)["counts"]["generation_jobs"]["after"] == 6
    await import_legacy(url, cutover=True)
    assert query(url, "SELECT prompt FROM generation_jobs WHERE id = 70") == [("too late",)]


@STATES
async def test_undo_gives_the_former_tables_back_as_they_were(
    state: str, empty_database_url: str
) -> None:
    url = empty_database_url
    former_tables.build(url, state)
    before = content(url)
    await import_legacy(url)
    await import_legacy(url, undo=True)
    assert content(url) == before
    assert query(url, STAGING) == [(0,)]
    await import_legacy(url, cutover=True)
    await import_legacy(url, undo=True)
    assert content(url) == before


async def test_an_undo_that_is_interrupted_at_its_last_step_goes_on_with_it(
    empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "B")
    before = content(url)
    await import_legacy(url, cutover=True)
    execute(url, *_STOPPED_AT_VALIDATE)
    with pytest.raises(ImportFailedError, match="stopped here"):
        await import_legacy(url, undo=True)
    assert content(url) != before
    execute(url, "DROP EVENT TRIGGER stopped")
    await import_legacy(url, undo=True, report=report)
    assert read(report)["phase"] == "undone"
    assert content(url) == before
    with pytest.raises(ImportFailedError, match="no import here"):
        await import_legacy(url, undo=True)


_STOPPED_AT_VALIDATE = (
    """
    CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_query() LIKE '%VALIDATE CONSTRAINT%' THEN
            RAISE 'stopped here';
        END IF;
    END $$
    """,
    """
    CREATE EVENT TRIGGER stopped ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION stop()
    """,
)


async def test_undo_keeps_what_was_made_meanwhile(empty_database_url: str, tmp_path: Path) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "B")
    await import_legacy(url, cutover=True)
    execute(
        url,
        "INSERT INTO generation_jobs (id, prompt, params) VALUES (77, 'new', '{\"a\": 1}')",
        "INSERT INTO generation_jobs (prompt) VALUES ('beyond an integer')",
        "UPDATE generation_jobs SET id = 5000000000 WHERE prompt = 'beyond an integer'",
        "UPDATE generation_jobs SET status = 'completed', completed_at = '2025-01-01',"
        " dispatchable = false WHERE id = 3",
        "DELETE FROM generation_jobs WHERE id = 5",
    )
    await import_legacy(url, undo=True, report=report)
    assert query(url, "SELECT prompt, params->>'a' FROM generation_jobs WHERE id = 77") == [
        ("new", "1")
    ]
    (done,) = query(url, "SELECT status, completed_at::text FROM generation_jobs WHERE id = 3")
    assert done == ("completed", "2025-01-01 00:00:00")
    assert query(url, "SELECT count(*) FROM generation_jobs WHERE id = 5") == [(1,)]
    listed = {(row["kind"], row["id"]) for row in read(report)["rows"]}
    assert listed == {("rejected", 5000000000), ("removed", 5)}
    kept = query(url, "SELECT count(*) FROM generation_jobs_undone.generation_jobs")
    assert kept[0][0] >= 6


async def test_undo_says_where_the_files_are_that_were_made_meanwhile(
    empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "B")
    await import_legacy(url, cutover=True)
    execute(
        url,
        "INSERT INTO generation_jobs (id, prompt, status, completed_at, dispatchable)"
        " VALUES (77, 'new', 'completed', now(), false)",
        *(_FILE.format(values=one) for one in (
            "77, 1, 'output', 0, 0, 'fox_1.png'",
            "77, 1, 'output', 1, 0, 'fox_2.png'",
            "77, 1, 'thumbnail', 0, 150, 'fox_1_150.webp'",
            "3, 1, 'output', 0, 0, 'of a retried one.png'",
        )),
    )  # fmt: skip
    await import_legacy(url, undo=True, report=report)
    (said,) = read(report)["problems"]
    assert said.startswith("3 files of 2 jobs were made here")
    named = "generation_jobs_undone.job_artifacts"
    assert named in said
    files = query(url, f"SELECT object_key FROM {named} WHERE attempt > 0 AND role = 'output'")
    assert len(files) == 3


#: A file that a worker made.
_FILE = """
INSERT INTO job_artifacts (
    job_id, attempt, role, position, thumbnail_size, filename, content_type, size, sha256,
    object_key, stored_at
)
SELECT job_id, attempt, role, position, thumbnail_size, filename, 'image/png', 3,
    sha256(convert_to(filename, 'UTF8')), 'jobs/' || job_id || '/1/' || filename, now()
FROM (VALUES ({values})) AS file (job_id, attempt, role, position, thumbnail_size, filename)
"""


@STATES
async def test_the_former_tables_go_only_after_a_dump_and_come_back_from_it(
    state: str, empty_database_url: str, tmp_path: Path
) -> None:
    url, dump = empty_database_url, tmp_path / "former.dump"
    former_tables.build(url, state)
    before = content(url)
    with pytest.raises(ImportFailedError, match="--dump"):
        await import_legacy(url, drop=True)
    await import_legacy(url, cutover=True)
    await import_legacy(url, drop=True, dump=dump)
    assert dump.stat().st_size > 0
    assert query(url, "SELECT to_regnamespace('legacy')::text") == [(None,)]
    with pytest.raises(ImportFailedError, match="--dump"):
        await import_legacy(url, undo=True)
    await import_legacy(url, undo=True, dump=dump)
    assert content(url) == before


async def test_a_table_of_the_application_is_not_in_the_way_unnoticed(
    empty_database_url: str,
) -> None:
    url = empty_database_url
    former_tables.build(url, "C")
    execute(url, "CREATE TABLE workers (id integer)")
    for dry_run in (True, False):
        with pytest.raises(ImportFailedError, match="workers"):
            await import_legacy(url, cutover=True, dry_run=dry_run)
    assert query(url, STAGING) == [(0,)]


def test_every_table_of_the_service_is_known_by_name(database_url: str) -> None:
    own = query(
        database_url,
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('public')"
        " AND relkind = 'r' AND relname <> 'generation_jobs' ORDER BY 1",
    )
    assert [name for (name,) in own] == list(staging.OWN_TABLES)


async def test_what_does_not_arrive_as_it_was_is_rolled_back(empty_database_url: str) -> None:
    url = empty_database_url
    former_tables.build(url, "C")
    await import_legacy(url)
    execute(
        url,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.prompt := upper(NEW.prompt); RETURN NEW; END $$",
        "CREATE TRIGGER shout BEFORE INSERT ON generation_jobs_import.generation_jobs"
        " FOR EACH ROW EXECUTE FUNCTION shout()",
    )
    before = content(url)
    with pytest.raises(ImportFailedError, match="prompt: was 'wait', became 'WAIT'"):
        await import_legacy(url, cutover=True)
    assert content(url) == before
    assert query(url, STAGING) == [(0,)]


async def test_imported_jobs_are_jobs(empty_database_url: str, tmp_path: Path) -> None:
    url = empty_database_url
    former_tables.build(url, "B")
    await import_legacy(url, cutover=True)
    settings = Settings(database_url=url, data_dir=tmp_path, listen="127.0.0.1:0")
    async with (
        server.running(settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = ProtocolClient(channel)
        fox = await client.get(1)
        assert (fox.status, fox.content_id, fox.celery_task_id) == (COMPLETED, 42, "celery-1")
        assert fox.sampler.steps == 20
        locations = [file.external_location for file in fox.artifacts]
        assert locations == ["out/fox.png", "out/fox_150.webp", "out/fox_300.webp"]
        error = await refused(client.read(fox.artifacts[0].id))
        assert error.status is grpc.StatusCode.FAILED_PRECONDITION
        page = await client.list_jobs(filter=job_pb2.JobFilter(legacy_request_id=3))
        assert [job.prompt for job in page.jobs] == ["alone"]
        page = await client.list_jobs(
            filter=job_pb2.JobFilter(search="fox", statuses=[FAILED, CANCELLED])
        )
        assert {job.id for job in page.jobs} == {2, 5}
        created = await client.create()
        assert created.id > max(
            row[0] for row in query(url, "SELECT id FROM legacy.generation_jobs")
        )

        worker = ProtocolWorker(channel)
        worker.offers(["sdxl.safetensors"], ["film.safetensors"])
        await worker.report_catalogue()
        leases = {lease.job_id: lease for lease in await worker.lease(3)}
        assert 3 in leases
        assert leases[3].job.sampler.steps == 28
        assert leases[3].job.width == 512
        again = await client.stub.RetryJob(pb.RetryJobRequest(id=2), timeout=20)
        assert again.job.status == PENDING
        assert (await worker.lease_one()).job_id == 2


async def test_a_queued_picture_without_a_checkpoint_is_told_of_and_can_be_given_one(
    empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "A")
    await import_legacy(url, cutover=True, dry_run=True, report=report)
    assert "--checkpoint" in _why_of(report, 3, "checkpoint_model")
    await import_legacy(url, cutover=True, checkpoint="sdxl.safetensors", report=report)
    assert "--checkpoint" in _why_of(report, 3, "checkpoint_model")
    assert read(report)["verified"]
    settings = Settings(database_url=url, data_dir=tmp_path, listen="127.0.0.1:0")
    async with (
        server.running(settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        worker = ProtocolWorker(channel)
        worker.offers(["sdxl.safetensors"])
        await worker.report_catalogue()
        leases = {lease.job_id: lease for lease in await worker.lease(3)}
        assert leases[3].job.checkpoint_model == "sdxl.safetensors"
        text = await ProtocolClient(channel).get(2)
        assert not text.checkpoint_model


async def test_parameters_larger_than_a_new_jobs_are_kept_and_listed(
    empty_database_url: str, tmp_path: Path
) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "B")
    execute(
        url,
        "UPDATE generation_jobs SET params = jsonb_build_object('essay', repeat('x', 300000))"
        " WHERE id = 5",
    )
    await import_legacy(url, cutover=True, report=report)
    assert "kept" in _why_of(report, 5, "params.size")
    assert query(url, "SELECT length(params ->> 'essay') FROM generation_jobs WHERE id = 5") == [
        (300_000,)
    ]


async def test_no_row_is_said_to_be_rejected(empty_database_url: str, tmp_path: Path) -> None:
    url, report = empty_database_url, tmp_path / "report.json"
    former_tables.build(url, "A")
    said = await import_legacy(url, cutover=True, report=report)
    assert not any("rejected" in line for line in said)
    assert "rejected" not in report.read_text()


async def test_the_example_of_the_documentation_is_a_true_one(empty_database_url: str) -> None:
    former_tables.build(empty_database_url, "B")
    said = await import_legacy(empty_database_url, cutover=True, dry_run=True)
    text = Path("docs/migrating.md").read_text(encoding="utf-8")
    _, _, example = text.partition("state B:\n\n")
    shown = [line.removeprefix("    ") for line in example.partition("\n\n")[0].splitlines()]
    assert list(map(_without_rate, said)) == list(map(_without_rate, shown))


def _without_rate(line: str) -> str:
    return re.sub(r"rows, [\d,]+ a second", "rows", line)


def _why_of(report: Path, row_id: int, field: str) -> str:
    """Why the report says that a field of a job was adjusted."""
    (why,) = (
        one["why"]
        for row in read(report)["rows"]
        if row["kind"] == "adjusted" and row["table"] == "generation_jobs" and row["id"] == row_id
        for one in row["fields"]
        if one["field"] == field
    )
    return str(why)
