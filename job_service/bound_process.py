"""Child processes whose lives are bound to this one's, if need be under another identity.

Such a child starts as this file, run as a script, and becomes the wanted program by exec: what it
has to do before that is not safe between fork and exec in a process that has threads.
"""

import ctypes
import os
import signal
import sys

# linux/sched.h and linux/prctl.h
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1


def bound_command(program: str, *arguments: str, identity: str = "self") -> list[str]:
    """Make the command line that runs ``program`` for as long as this process lives, no longer.

    Args:
        program: path of the program.
        arguments: what it is called with.
        identity: ``self``; or, for root, ``namespace`` (a user namespace in which it is nobody)
            or ``UID:GID``.
    """
    launcher = [sys.executable, "-I", "-S", __file__, identity, str(os.getpid())]
    return [*launcher, program, *arguments]


def leave_root_behind(identity: str) -> None:
    """Take on ``identity``: ``self``, ``namespace`` or ``UID:GID``."""
    if identity == "self":
        return
    if identity == "namespace":
        # In a user namespace without a mapping root shows as "nobody", which satisfies
        # PostgreSQL, and still owns its files, so nothing on disk changes hands.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWUSER) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"unshare(CLONE_NEWUSER): {os.strerror(error)}")
        return
    uid, gid = (int(part) for part in identity.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def end_with_starter(starter: int) -> None:
    """Have the kernel send SIGINT once the starter is gone; only Linux does that.

    Comes after any change of user, which would clear it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != starter:
        raise OSError("the process that wanted this program is gone")


def main() -> None:
    """Turn this process, started with ``bound_command``, into the program it names."""
    identity, starter, program, *arguments = sys.argv[1:]
    try:
        leave_root_behind(identity)
        end_with_starter(int(starter))
        os.execv(program, [program, *arguments])  # noqa: S606 - the caller's choice
    except OSError as error:
        sys.exit(f"cannot run {program}: {error}")


if __name__ == "__main__":
    main()
