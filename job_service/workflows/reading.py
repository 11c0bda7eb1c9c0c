"""Reads what a client sends as a graph, in API format or as ComfyUI's user interface saves it."""

from dataclasses import dataclass

from job_service.workflows.graph import MAX_NODES, Graph, document_of, graph_of
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.ui_format import convert, is_ui_format


@dataclass(frozen=True, slots=True)
class ReadWorkflow:
    """A graph, and whether it had to be converted from the format of the user interface."""

    graph: Graph
    converted: bool


def read_workflow(
    text: str, *, signatures: NodeSignatures | None = None, max_nodes: int = MAX_NODES
) -> ReadWorkflow:
    """Read a graph in either format.

    Raises InvalidWorkflowError with everything that is wrong with its form, or with what cannot be
    converted without guessing.
    """
    document = document_of(text)
    if is_ui_format(document):
        converted = convert(document, signatures, max_nodes=max_nodes)
        return ReadWorkflow(graph_of(converted, max_nodes=max_nodes), converted=True)
    return ReadWorkflow(graph_of(document, max_nodes=max_nodes), converted=False)
