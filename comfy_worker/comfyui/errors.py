"""What can go wrong in talking to a ComfyUI, as exceptions."""

from collections.abc import Sequence
from dataclasses import dataclass


class ComfyError(Exception):
    """Base of everything this package raises about a ComfyUI."""


class ComfyUnreachableError(ComfyError):
    """No answer: refused, reset, or timed out.

    ``may_have_arrived`` is False only where the connection was never made, so that
    the request certainly had no effect.
    """

    def __init__(self, message: str, *, may_have_arrived: bool) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class UnexpectedAnswerError(ComfyError):
    """An answer the protocol does not know: a wrong status or shape, or too long."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class InputError:
    """One reason why ComfyUI refused a node; ``node_class`` and ``input_name`` may be empty.

    ``value`` is a text that is none of the ``choices`` its input takes; those are None where
    ComfyUI does not list them because they are many. ``suggestions`` are the choices most like
    it. ``traceback`` is ComfyUI's, where checking the node raised.
    """

    node_id: str
    node_class: str
    kind: str
    input_name: str
    message: str
    value: str = ""
    choices: tuple[str, ...] | None = None
    suggestions: tuple[str, ...] = ()
    traceback: str = ""


class PromptRejectedError(ComfyError):
    """ComfyUI's validation refused the prompt (recording 05).

    ``kind`` is its error type, such as ``prompt_outputs_failed_validation``; the cause
    is often only in ``inputs``.
    """

    def __init__(self, kind: str, message: str, inputs: Sequence[InputError]) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.inputs = tuple(inputs)


class OutputMissingError(ComfyError):
    """``/view`` does not have the file: deleted since, or never written (recording 03)."""


class OutputTooLargeError(ComfyError):
    """The file exceeds what the caller takes."""


class PromptVanishedError(ComfyError):
    """The prompt is in neither queue nor history (recordings 07a and 09)."""
