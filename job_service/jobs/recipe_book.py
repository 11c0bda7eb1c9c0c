"""What the recipes of jobs may refer to, as far as it was looked up for them."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from uuid import UUID

from job_service.jobs.offered_names import OfferedNames
from job_service.workflows.graph import MAX_NODES
from job_service.workflows.safety import SafetyRules
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.template import Template


@dataclass(frozen=True, slots=True)
class TemplateKey:
    """What ``owner`` means by a template's name. ``version``: 0 for the newest."""

    owner: UUID | None
    name: str
    version: int = 0


@dataclass(frozen=True, slots=True)
class WorkflowRules:
    """What an installation lets graphs do."""

    safety: SafetyRules = field(default_factory=SafetyRules)
    max_nodes: int = MAX_NODES


@dataclass(frozen=True, slots=True)
class RecipeBook:
    """Templates, inputs, node classes and models that requests name.

    ``inputs``: those that exist, as (owner, id). ``signatures``: by backend label, what the node
    classes of its workers take; absent: no worker has said. ``offered``: by backend label, the
    names of what live workers offer.
    """

    rules: WorkflowRules = field(default_factory=WorkflowRules)
    templates: Mapping[TemplateKey, Template] = field(default_factory=dict)
    inputs: AbstractSet[tuple[UUID, int]] = frozenset()
    signatures: Mapping[str, NodeSignatures] = field(default_factory=dict)
    offered: Mapping[str, OfferedNames] = field(default_factory=dict)


#: For requests that name nothing.
EMPTY_BOOK = RecipeBook()
