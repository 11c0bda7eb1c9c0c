"""How driving a prompt, or cancelling it, can end."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from comfy_worker.comfyui.failures import Failure
from comfy_worker.comfyui.outputs import OutputFile, OutputText
from comfy_worker.comfyui.sent_pictures import SentPicture


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The history says success.

    ``files``, ``texts`` and ``pictures`` are what it made: in ComfyUI's folders, in its
    history, and sent over the WebSocket. ``gap`` says why pictures are missing, empty when
    none is. ``seconds`` is ComfyUI's own measure of the run, None where it gives none.
    ``adopted``: the prompt had been submitted by a predecessor.
    """

    prompt_id: str
    files: tuple[OutputFile, ...]
    seconds: float | None
    adopted: bool
    texts: tuple[OutputText, ...] = ()
    pictures: tuple[SentPicture, ...] = ()
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """ComfyUI refused the prompt, or a node raised."""

    prompt_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The prompt was stopped, or removed from the queue.

    ``requested``: through this driver; otherwise somebody else did it.
    """

    prompt_id: str
    requested: bool


class LossReason(Enum):
    """Why a prompt's fate is unknown."""

    NOT_SUBMITTED = auto()
    """ComfyUI gave no usable answer before it had the prompt."""
    UNREACHABLE = auto()
    """ComfyUI, having the prompt, gave no usable answer for the grace period."""
    RESTARTED = auto()
    """In neither queue nor history after the connection was lost in between."""
    VANISHED = auto()
    """In neither queue nor history: somebody deleted it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody knows what became of the prompt; it is not done."""

    prompt_id: str
    reason: LossReason
    message: str


Outcome: TypeAlias = Succeeded | Failed | Interrupted | Lost


class Cancellation(Enum):
    """What became of a request to cancel, as verified afterwards."""

    REMOVED = auto()
    """It was pending and is gone; it never ran."""
    INTERRUPTED = auto()
    """It was running and has stopped."""
    TOO_LATE = auto()
    """It had already ended by itself."""
    NOT_FOUND = auto()
    """ComfyUI does not know it."""
    STILL_RUNNING = auto()
    """Its node ignores interrupts, or stopping it could have hit another prompt."""
