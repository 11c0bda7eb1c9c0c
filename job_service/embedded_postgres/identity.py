"""Under which identity PostgreSQL runs: it refuses to run as root."""

import logging
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from job_service.bound_process import bound_command

logger = logging.getLogger(__name__)

# What an unmapped uid shows as inside a user namespace (kernel default of
# /proc/sys/kernel/overflowuid); initdb insists on an account with that number.
OVERFLOW_UID = 65534


@dataclass(frozen=True, slots=True)
class Identity:
    """Who runs PostgreSQL and owns its files; ``name`` as in ``bound_command``."""

    name: str
    uid: int
    gid: int

    def command(self, program: Path, *arguments: str) -> list[str]:
        """The command line that runs ``program`` under this identity."""
        return bound_command(str(program), *arguments, identity=self.name)

    def take_over(self, directory: Path) -> None:
        """Give ``directory`` and all in it to this identity, if it is not its owner yet."""
        if directory.stat().st_uid == self.uid:
            return
        for parent, directories, files in os.walk(directory):
            for name in (*directories, *files):
                os.lchown(Path(parent, name), self.uid, self.gid)
        # Last, so that an interrupted walk starts again next time.
        os.chown(directory, self.uid, self.gid)

    def reach(self, path: Path) -> None:
        """Make sure this identity can get to ``path``, which another user may own."""
        if self.name in ("self", "namespace"):
            return
        for parent in reversed(path.resolve().parents):
            mode = parent.stat()
            if self._may_search(mode):
                continue
            logger.warning(
                "PostgreSQL cannot run as root and user namespaces are not allowed here: "
                "letting others pass through %s (chmod o+x)",
                parent,
            )
            parent.chmod(stat.S_IMODE(mode.st_mode) | stat.S_IXOTH)

    def _may_search(self, mode: os.stat_result) -> bool:
        if mode.st_uid == self.uid:
            return bool(mode.st_mode & stat.S_IXUSR)
        if mode.st_gid == self.gid:
            return bool(mode.st_mode & stat.S_IXGRP)
        return bool(mode.st_mode & stat.S_IXOTH)


def choose_identity(postgres: Path) -> Identity:
    """Ourselves, or without root: a user namespace where allowed, else an unprivileged account."""
    if os.geteuid() != 0:
        return Identity("self", os.geteuid(), os.getegid())
    namespace = Identity("namespace", 0, os.getegid())
    return namespace if _works(namespace, postgres) else account_identity()


def account_identity() -> Identity:
    """The system account ``postgres``, or ``nobody`` where there is none."""
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(f"{account.pw_uid}:{account.pw_gid}", account.pw_uid, account.pw_gid)
    raise LookupError("PostgreSQL cannot run as root, and there is no account postgres or nobody")


def _works(identity: Identity, postgres: Path) -> bool:
    try:
        pwd.getpwuid(OVERFLOW_UID)
    except KeyError:
        return False
    probe = subprocess.run(  # noqa: S603 - our own program
        identity.command(postgres, "--version"), capture_output=True, check=False
    )
    return probe.returncode == 0
