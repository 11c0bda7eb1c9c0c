"""What each error code means: whom it concerns, whether another attempt helps, what to do."""

from dataclasses import dataclass
from typing import Any, Final

from generation_jobs.v1 import job_error_pb2 as pb

from job_service.jobs.public_text import public


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """How the service treats one error code.

    ``charge`` says whether the attempt counts against ``max_attempts``; ``forgivable`` that it
    does so only from the third time on (a ComfyUI that vanished is rarely the job's fault).
    """

    message: str
    category: "pb.ErrorCategory.ValueType"
    severity: "pb.ErrorSeverity.ValueType"
    retry: bool
    charge: bool = True
    forgivable: bool = False
    suggestions: tuple[str, ...] = ()


#: Attempts lost to a vanished ComfyUI that a job is not charged for.
FORGIVEN_ATTEMPTS: Final = 2

_MOST_REPLACEMENTS: Final = 3
_TRY_LATER: Final = "Try again in a few minutes."
_TELL_OPERATOR: Final = "If it happens again, tell whoever runs the service."

POLICIES: Final[dict["pb.ErrorCode.ValueType", ErrorPolicy]] = {
    pb.ERROR_CODE_INTERNAL: ErrorPolicy(
        "Something went wrong inside the service.",
        pb.ERROR_CATEGORY_SYSTEM,
        pb.ERROR_SEVERITY_HIGH,
        retry=True,
        suggestions=(_TRY_LATER, _TELL_OPERATOR),
    ),
    pb.ERROR_CODE_COMFYUI_UNREACHABLE: ErrorPolicy(
        "The image server could not be reached.",
        pb.ERROR_CATEGORY_CONNECTION,
        pb.ERROR_SEVERITY_HIGH,
        retry=True,
        forgivable=True,
        suggestions=(_TRY_LATER,),
    ),
    pb.ERROR_CODE_COMFYUI_RESTARTED: ErrorPolicy(
        "The image server was restarted while it worked on this.",
        pb.ERROR_CATEGORY_CONNECTION,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=True,
        forgivable=True,
        suggestions=(_TRY_LATER,),
    ),
    pb.ERROR_CODE_PROMPT_LOST: ErrorPolicy(
        "The image server lost track of this.",
        pb.ERROR_CATEGORY_CONNECTION,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=True,
        forgivable=True,
        suggestions=(_TRY_LATER,),
    ),
    pb.ERROR_CODE_INVALID_WORKFLOW: ErrorPolicy(
        "The image server does not accept these settings.",
        pb.ERROR_CATEGORY_VALIDATION,
        pb.ERROR_SEVERITY_LOW,
        retry=False,
        suggestions=("Check the inputs named in the error and create a new job.",),
    ),
    pb.ERROR_CODE_MODEL_NOT_FOUND: ErrorPolicy(
        "A model this needs is not installed.",
        pb.ERROR_CATEGORY_VALIDATION,
        pb.ERROR_SEVERITY_LOW,
        retry=False,
        suggestions=("Choose one of the models that ListModels names.",),
    ),
    pb.ERROR_CODE_NODE_NOT_FOUND: ErrorPolicy(
        "The workflow uses a node that is not installed.",
        pb.ERROR_CATEGORY_VALIDATION,
        pb.ERROR_SEVERITY_LOW,
        retry=False,
        suggestions=("Remove the node from the workflow, or have it installed.",),
    ),
    pb.ERROR_CODE_NODE_FAILED: ErrorPolicy(
        "The generation failed.",
        pb.ERROR_CATEGORY_GENERATION,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=False,
        suggestions=("Change the settings and create a new job.", _TELL_OPERATOR),
    ),
    pb.ERROR_CODE_OUT_OF_MEMORY: ErrorPolicy(
        "The graphics card ran out of memory.",
        pb.ERROR_CATEGORY_RESOURCE,
        pb.ERROR_SEVERITY_MEDIUM,
        # The worker has already freed memory and tried once more before it reports this.
        retry=False,
        suggestions=("Make the picture smaller.", "Make fewer pictures at once."),
    ),
    pb.ERROR_CODE_DEVICE_FAULT: ErrorPolicy(
        "The graphics card is in a bad state.",
        pb.ERROR_CATEGORY_RESOURCE,
        pb.ERROR_SEVERITY_CRITICAL,
        retry=True,
        suggestions=(_TRY_LATER, _TELL_OPERATOR),
    ),
    pb.ERROR_CODE_TIMED_OUT: ErrorPolicy(
        "The generation took too long.",
        pb.ERROR_CATEGORY_RESOURCE,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=True,
        suggestions=("Make the picture smaller or use fewer steps.",),
    ),
    pb.ERROR_CODE_EXPIRED: ErrorPolicy(
        "It could not be started before it expired.",
        pb.ERROR_CATEGORY_RESOURCE,
        pb.ERROR_SEVERITY_LOW,
        retry=False,
        suggestions=("Create it again when there is less to do.",),
    ),
    pb.ERROR_CODE_WORKER_LOST: ErrorPolicy(
        "The worker that ran this has gone silent.",
        pb.ERROR_CATEGORY_SYSTEM,
        pb.ERROR_SEVERITY_HIGH,
        retry=True,
        suggestions=(_TRY_LATER, _TELL_OPERATOR),
    ),
    pb.ERROR_CODE_OUTPUT_MISSING: ErrorPolicy(
        "The generation finished without a result.",
        pb.ERROR_CATEGORY_GENERATION,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=True,
        suggestions=("Check that the workflow saves its result.",),
    ),
    pb.ERROR_CODE_STORAGE_FAILED: ErrorPolicy(
        "The result could not be stored.",
        pb.ERROR_CATEGORY_RESOURCE,
        pb.ERROR_SEVERITY_CRITICAL,
        retry=True,
        suggestions=(_TRY_LATER, _TELL_OPERATOR),
    ),
    pb.ERROR_CODE_INTERRUPTED: ErrorPolicy(
        "Somebody stopped this on the image server.",
        pb.ERROR_CATEGORY_GENERATION,
        pb.ERROR_SEVERITY_LOW,
        retry=True,
        suggestions=(_TRY_LATER,),
    ),
    pb.ERROR_CODE_WORKFLOW_FORBIDDEN: ErrorPolicy(
        "The workflow holds something that is not allowed here.",
        pb.ERROR_CATEGORY_PERMISSION,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=False,
        suggestions=("Remove what the error names.",),
    ),
    pb.ERROR_CODE_FAILED_BY_OPERATOR: ErrorPolicy(
        "It was ended by an operator.",
        pb.ERROR_CATEGORY_SYSTEM,
        pb.ERROR_SEVERITY_LOW,
        retry=False,
    ),
    pb.ERROR_CODE_INPUT_MISSING: ErrorPolicy(
        "An input this starts from is not there any more.",
        pb.ERROR_CATEGORY_VALIDATION,
        pb.ERROR_SEVERITY_LOW,
        retry=False,
        suggestions=("Upload the input again and create a new job.",),
    ),
    pb.ERROR_CODE_LEGACY: ErrorPolicy(
        "It failed.",
        pb.ERROR_CATEGORY_SYSTEM,
        pb.ERROR_SEVERITY_MEDIUM,
        retry=False,
    ),
}


_INTERNAL: Final = POLICIES[pb.ERROR_CODE_INTERNAL]


def policy(code: "pb.ErrorCode.ValueType") -> ErrorPolicy:
    """The policy of a code; codes this version does not know are treated as INTERNAL."""
    return POLICIES.get(code, _INTERNAL)


def complete(error: pb.JobError) -> pb.JobError:
    """The error with a known code and everything that follows from it filled in.

    What the user reads has no traceback and no path, whoever wrote it; what an operator needs is
    in ``technical_details``.
    """
    known = error.code if error.code in POLICIES else pb.ERROR_CODE_INTERNAL
    rule = policy(known)
    completed = pb.JobError()
    completed.CopyFrom(error)
    completed.code = known
    completed.message = public(error.message) or rule.message
    if completed.message != error.message and not error.technical_details:
        completed.technical_details = error.message
    for wrong in completed.node_input_errors:
        wrong.message = public(wrong.message)
    completed.category = rule.category
    completed.severity = rule.severity
    completed.retryable = rule.retry
    completed.ClearField("retry_delay")
    completed.ClearField("recovery_suggestions")
    completed.recovery_suggestions.extend((*_replacements(error), *rule.suggestions))
    completed.attempts_exhausted = False
    return completed


def _replacements(error: pb.JobError) -> list[str]:
    """What to put where ComfyUI refused a value that is like one it takes."""
    return [
        f"Set {wrong.input_name} of node {wrong.node_id} to {' or '.join(wrong.suggestions)}."
        for wrong in error.node_input_errors
        if wrong.suggestions
    ][:_MOST_REPLACEMENTS]


def error_of(code: "pb.ErrorCode.ValueType", message: str = "", **details: Any) -> pb.JobError:
    """A complete error that the service itself raises."""
    return complete(pb.JobError(code=code, message=message, **details))
