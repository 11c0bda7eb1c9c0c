"""Why a prompt failed, in words and codes fit for its owner. Pure.

ComfyUI's own messages carry tracebacks and paths of the machine it runs on
(recordings 05 and 06); they go into ``technical_details`` only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from comfy_worker.comfyui.errors import InputError, PromptRejectedError
from comfy_worker.comfyui.prompt_state import HistoryEntry

_LONGEST_MESSAGE: Final = 500
_LONGEST_DETAILS: Final = 4000
_MOST_INPUT_ERRORS: Final = 5
_PATH: Final = re.compile(r"(?<![\w:/.<])/[^\s:'\",;]+|\b[A-Za-z]:\\[^\s:'\",;]*")
_MODEL_INPUTS: Final = re.compile(
    r"(?:ckpt|lora|vae|unet|clip|control_net|style_model|gligen|model|hypernetwork"
    r"|photomaker_model|audio_encoder)_name\d*$"
)
_OUTPUTS_REFUSED: Final = "prompt_outputs_failed_validation"
_NODE_ID: Final = re.compile(r"Node ID '#([^']{1,255})'")
_UNKNOWN_NODE: Final = re.compile(r"node \S+ does not exist|[Mm]issing node type")
_OUT_OF_MEMORY_TYPES: Final = frozenset(
    {"torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "OutOfMemoryError", "MemoryError"}
)
_DEVICE_FAULTS: Final = ("CUDA error", "HIP error", "device-side assert", "cuDNN error")


class FailureCode(StrEnum):
    """Why a prompt failed, in the words of the job service's ErrorCode."""

    INVALID_WORKFLOW = "INVALID_WORKFLOW"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    NODE_NOT_FOUND = "NODE_NOT_FOUND"
    NODE_FAILED = "NODE_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DEVICE_FAULT = "DEVICE_FAULT"
    WORKFLOW_FORBIDDEN = "WORKFLOW_FORBIDDEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A prompt's failure.

    ``message`` is one sentence for the owner, without traceback or path;
    ``technical_details`` is for the operator, at most 4,000 bytes. Node and
    exception fields are empty, and ``inputs`` too, where they do not apply.
    """

    code: FailureCode
    message: str
    node_id: str = ""
    node_class: str = ""
    exception_type: str = ""
    technical_details: str = ""
    inputs: tuple[InputError, ...] = ()


def failure_of_rejection(rejection: PromptRejectedError) -> Failure:
    """Describe the failure of a prompt that ComfyUI's validation refused."""
    if rejection.inputs:
        return failure_of_inputs(rejection.inputs)
    unknown_node = rejection.kind == "missing_node_type" or (
        rejection.kind == "invalid_prompt" and _UNKNOWN_NODE.search(rejection.message)
    )
    message = rejection.message
    if rejection.kind == _OUTPUTS_REFUSED:
        # No node is named: recording 05 has this only for a cycle.
        message = f"{message}: nodes depend on each other in a circle"
    named = _NODE_ID.search(rejection.message)
    return Failure(
        code=FailureCode.NODE_NOT_FOUND if unknown_node else FailureCode.INVALID_WORKFLOW,
        message=public_message(message),
        node_id=named[1] if named else "",
        technical_details=_details(f"{rejection.kind}: {rejection.message}"),
    )


def failure_of_inputs(inputs: Sequence[InputError]) -> Failure:
    """Describe the failure of a prompt some of whose node inputs, at least one, were refused."""
    return _failure_naming(inputs, _code_of_inputs(inputs))


def failure_of_paths(inputs: Sequence[InputError]) -> Failure:
    """Describe the failure of a prompt that is not sent because of the paths in these inputs."""
    return _failure_naming(inputs, FailureCode.WORKFLOW_FORBIDDEN)


def _code_of_inputs(inputs: Sequence[InputError]) -> FailureCode:
    missing = all(
        error.kind == "value_not_in_list" and _MODEL_INPUTS.search(error.input_name)
        for error in inputs
    )
    return FailureCode.MODEL_NOT_FOUND if missing else FailureCode.INVALID_WORKFLOW


def _failure_naming(inputs: Sequence[InputError], code: FailureCode) -> Failure:
    named = [_input_message(error) for error in inputs]
    shown = named[:_MOST_INPUT_ERRORS]
    if len(named) > len(shown):
        shown.append(f"and {len(named) - len(shown)} more")
    return Failure(
        code=code,
        message=public_message("; ".join(shown)),
        node_id=inputs[0].node_id,
        node_class=inputs[0].node_class,
        technical_details=_details("\n".join([*_tracebacks(inputs), *named])),
        inputs=tuple(
            replace(error, message=public_message(error.message), traceback="") for error in inputs
        ),
    )


def _tracebacks(inputs: Sequence[InputError]) -> list[str]:
    """Return each traceback once: ComfyUI repeats it for every output that needs the node."""
    return list(dict.fromkeys(error.traceback for error in inputs if error.traceback))


def failure_of_entry(entry: HistoryEntry) -> Failure:
    """Describe the failure of a prompt that ran and has a failed history entry."""
    where = entry.node_class or "a node"
    if entry.node_id:
        where = f"{where} ({entry.node_id})"
    reasons = (entry.exception_type, entry.exception_message.strip())
    detail = ": ".join(reason for reason in reasons if reason) or "ComfyUI gave no reason"
    message = f"{where} failed: {detail}"
    if _is_out_of_memory(entry):
        code = FailureCode.OUT_OF_MEMORY
        message = f"{where} ran out of memory; a smaller picture or batch needs less"
    elif any(fault in entry.exception_message for fault in _DEVICE_FAULTS):
        code = FailureCode.DEVICE_FAULT
    else:
        code = FailureCode.NODE_FAILED
    return Failure(
        code=code,
        message=public_message(message),
        node_id=entry.node_id,
        node_class=entry.node_class,
        exception_type=public_message(entry.exception_type),
        technical_details=_details(f"{entry.traceback}{detail}"),
    )


def public_message(text: str) -> str:
    """Return ``text`` on one line, without paths, at most 500 characters, valid Unicode."""
    first_line = text.strip().partition("\n")[0].strip()
    printable = "".join(c if c.isprintable() else " " for c in first_line)
    hidden = _PATH.sub("<path>", printable)
    return hidden if len(hidden) <= _LONGEST_MESSAGE else hidden[: _LONGEST_MESSAGE - 1] + "…"


def _details(text: str) -> str:
    """Return the end of ``text``, where a traceback says what happened, in valid Unicode."""
    return (
        text.encode(errors="replace")[-_LONGEST_DETAILS:].decode(errors="ignore").replace("\0", " ")
    )


def _input_message(error: InputError) -> str:
    node = f"{error.node_class or 'node'} ({error.node_id})"
    where = f"{node} {error.input_name}" if error.input_name else node
    return f"{where}: {error.message}"


def _is_out_of_memory(entry: HistoryEntry) -> bool:
    return (
        entry.exception_type in _OUT_OF_MEMORY_TYPES
        or "out of memory" in entry.exception_message.lower()
    )
