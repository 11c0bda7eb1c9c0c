"""A worker at one moment, and what keeps it from being ready. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Seconds without an answer after which job_service is out of reach: three held heartbeats.
LONGEST_SILENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class BackendState:
    """One ComfyUI.

    ``available``: connected, answering, without a device fault; ``offered``: job_service knows what
    it has. ``slots`` are the prompts it may have at once; ``rendering`` and ``storing`` count jobs.
    """

    name: str
    available: bool
    offered: bool
    slots: int
    rendering: int
    storing: int


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The worker as a whole.

    ``silence``: seconds since job_service last answered a poll, None when it never has;
    ``answered_at``: when that was, in seconds since the epoch.
    """

    silence: float | None
    answered_at: float | None
    draining: bool
    backends: Sequence[BackendState]


def problems(state: WorkerState) -> list[str]:
    """What is in the way of working, a line for each; nothing: it is ready."""
    found = []
    if state.draining:
        found.append("draining: the process has been told to stop")
    if state.silence is None:
        found.append("job_service: has not answered yet")
    elif state.silence > LONGEST_SILENCE:
        found.append(f"job_service: no answer for {state.silence:.0f} seconds")
    if not any(backend.available and backend.offered for backend in state.backends):
        names = ", ".join(backend.name for backend in state.backends)
        found.append(f"ComfyUI: none of {names} can be given prompts")
    return found
