"""The format in which ComfyUI's user interface saves workflows, and its conversion."""

from typing import Any, Final

from job_service.workflows.problems import InvalidWorkflowError, Problem
from job_service.workflows.signatures import NodeSignatures

WHAT_TO_DO: Final = "in ComfyUI choose Workflow → Export (API) and send that file"


def is_ui_format(document: Any) -> bool:
    """Whether a document is what ComfyUI's user interface saves."""
    return isinstance(document, dict) and isinstance(document.get("nodes"), list)


def convert(
    document: dict[str, Any], signatures: NodeSignatures | None, *, max_nodes: int
) -> dict[str, Any]:
    """Convert a saved workflow to API format. Raises InvalidWorkflowError."""
    raise InvalidWorkflowError(
        [Problem("", f"is a workflow as ComfyUI's user interface saves it: {WHAT_TO_DO}")]
    )
