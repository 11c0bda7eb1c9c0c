"""The embedded PostgreSQL keeps its promises: it serves, stops, and survives what kills it."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import pytest

from job_service.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from job_service.embedded_postgres.cluster import environment, find_programs
from job_service.embedded_postgres.identity import account_identity, choose_identity

OWNER = Path(__file__).with_name("postgres_owner.py")
REPOSITORY = OWNER.parents[2]


class Owner:
    """A service process with an embedded PostgreSQL, to be killed."""

    def __init__(self, directory: Path, python: str = sys.executable, **how: Any) -> None:
        self._directory = directory
        how.setdefault("env", os.environ)
        self.process = subprocess.Popen(
            [python, str(OWNER), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **how,
        )

    def says(self) -> str:
        """The next line it prints; empty when it has ended."""
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).strip()

    @property
    def postmaster(self) -> psutil.Process:
        """The server it runs."""
        pid_file = self._directory / "cluster" / "postmaster.pid"
        return psutil.Process(int(pid_file.read_text().splitlines()[0]))

    def close(self) -> None:
        """Let it stop as it likes to."""
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        """Kill it outright."""
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    owners: list[Owner] = []

    def start(directory: Path, **how: Any) -> Owner:
        owners.append(Owner(directory, **how))
        return owners[-1]

    yield start
    for owner in owners:
        owner.kill()


def _has_ended(process: psutil.Process) -> bool:
    # Where no init reaps orphans they stay as zombies.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def _answer(postgres: EmbeddedPostgres, query: LiteralString) -> Any:
    url = postgres.url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def _keep_a_row(postgres: EmbeddedPostgres) -> None:
    url = postgres.url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 1")


@pytest.mark.heavy
def test_it_stops_with_its_owner_and_keeps_the_rows(
    tmp_path: Path, own: Callable[..., Owner]
) -> None:
    first = own(tmp_path)
    assert first.says() == "rows 1"
    server = first.postmaster

    first.close()

    assert _has_ended(server)
    assert own(tmp_path).says() == "rows 2"


@pytest.mark.heavy
def test_kill_9_of_the_owner_loses_nothing_and_leaves_nothing(
    tmp_path: Path, own: Callable[..., Owner]
) -> None:
    first = own(tmp_path)
    assert first.says() == "rows 1"
    server = first.postmaster

    first.kill()

    assert own(tmp_path).says() == "rows 2"
    assert _has_ended(server)


@pytest.mark.heavy
def test_kill_9_of_owner_and_server_loses_nothing(
    tmp_path: Path, own: Callable[..., Owner]
) -> None:
    first = own(tmp_path)
    assert first.says() == "rows 1"

    first.postmaster.kill()
    first.kill()

    assert own(tmp_path).says() == "rows 2"


async def test_a_server_left_running_is_taken_over(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as postgres:
        await _keep_a_row(postgres)
    programs = find_programs()
    identity = choose_identity(programs.postgres)
    cluster, socket = tmp_path / "cluster", tmp_path / "socket"
    left = subprocess.Popen(  # noqa: ASYNC220 - it must be nobody's child but this process's
        identity.command(programs.postgres, "-D", str(cluster), "-k", str(socket), "-h", ""),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert left.stderr is not None
    while "ready to accept connections" not in left.stderr.readline():
        pass

    async with EmbeddedPostgres(tmp_path) as postgres:
        assert await _answer(postgres, "SELECT count(*) FROM kept") == 1
        left.communicate(timeout=30)


async def test_a_pid_file_that_names_some_other_program_is_no_obstacle(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path):
        pid_file = tmp_path / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    lines[0] = str(os.getpid())
    pid_file.write_text("\n".join(lines) + "\n")
    (tmp_path / "socket" / ".s.PGSQL.5432.lock").write_text("\n".join(lines) + "\n")

    async with EmbeddedPostgres(tmp_path) as postgres:
        assert await _answer(postgres, "SELECT 1") == 1


async def test_a_server_that_dies_is_noticed_and_can_be_started_again(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as postgres:
        busy = asyncio.create_task(_answer(postgres, "SELECT pg_sleep(60)"))
        server = int((tmp_path / "cluster" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(server, signal.SIGKILL)

        assert await asyncio.wait_for(postgres.wait(), 30) == -signal.SIGKILL
        with pytest.raises(psycopg.OperationalError):
            await busy
    async with EmbeddedPostgres(tmp_path) as postgres:
        assert await _answer(postgres, "SELECT 1") == 1


def test_a_second_owner_is_refused_and_the_first_goes_on(
    tmp_path: Path, own: Callable[..., Owner]
) -> None:
    first = own(tmp_path)
    assert first.says() == "rows 1"

    refusal = own(tmp_path).says()

    assert refusal.startswith("refused:")
    assert f"in use by process {first.process.pid}" in refusal
    assert first.postmaster.is_running()
    first.close()
    assert own(tmp_path).says() == "rows 2"


async def test_a_path_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 8)

    async with EmbeddedPostgres(deep) as postgres:
        assert await _answer(postgres, "SELECT 1") == 1


async def test_an_initialisation_that_was_cut_off_starts_afresh(tmp_path: Path) -> None:
    unfinished = tmp_path / "cluster.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")

    async with EmbeddedPostgres(tmp_path) as postgres:
        assert await _answer(postgres, "SELECT 1") == 1


async def test_a_directory_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "PG_VERSION").write_text("12\n")

    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 12"):
        async with EmbeddedPostgres(tmp_path):
            pass


async def test_a_broken_configuration_is_reported_with_the_servers_own_words(
    tmp_path: Path,
) -> None:
    async with EmbeddedPostgres(tmp_path):
        pass
    (tmp_path / "cluster" / "postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        async with EmbeddedPostgres(tmp_path):
            pass


async def test_commits_are_durable_and_no_port_is_open(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as postgres:
        assert await _answer(postgres, "SHOW fsync") == "on"
        assert await _answer(postgres, "SHOW synchronous_commit") == "on"
        assert await _answer(postgres, "SHOW listen_addresses") == ""
    assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o700


def test_an_ordinary_user_can_run_it(own: Callable[..., Owner]) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        how = _as_ordinary_user(directory)
        first = own(directory / "data", **how)
        assert first.says() == "rows 1"
        assert os.geteuid() != 0 or first.postmaster.uids().effective != 0
        first.kill()
        second = own(directory / "data", **how)
        assert second.says() == "rows 2"
        second.close()
    finally:
        shutil.rmtree(directory)


def _as_ordinary_user(directory: Path) -> dict[str, Any]:
    """How to start an owner as a user without privileges who owns ``directory``."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    how: dict[str, Any] = {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
        "cwd": directory,
        "env": {
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(
                [str(REPOSITORY), str(REPOSITORY / "protos"), sysconfig.get_path("purelib")]
            ),
        },
    }
    # Root's own interpreter may be out of their reach.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(version, path=os.defpath)):
        if python is None:
            continue
        try:
            subprocess.run([python, "-c", "import job_service, psycopg"], check=True, **how)
        except (PermissionError, subprocess.CalledProcessError):
            continue
        return {"python": python, **how}
    pytest.skip("no Python interpreter here that an ordinary user may run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
async def test_root_without_user_namespaces_runs_it_under_an_account() -> None:
    account = account_identity()
    closed = Path(tempfile.mkdtemp())  # nobody but root may enter
    try:
        async with EmbeddedPostgres(closed / "data") as postgres:
            await _keep_a_row(postgres)
        async with EmbeddedPostgres(closed / "data", identity=account) as postgres:
            assert await _answer(postgres, "SELECT count(*) FROM kept") == 1
            assert (closed / "data" / "cluster" / "postmaster.pid").stat().st_uid == account.uid
        async with EmbeddedPostgres(closed / "data") as postgres:
            assert await _answer(postgres, "SELECT count(*) FROM kept") == 1
            assert (closed / "data" / "cluster" / "postmaster.pid").stat().st_uid == 0
    finally:
        shutil.rmtree(closed)
