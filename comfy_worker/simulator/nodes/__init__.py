"""The node classes the simulator has."""

from collections.abc import Mapping

from comfy_worker.simulator.nodes.declaration import NodeClass, Options
from comfy_worker.simulator.nodes.images import IMAGE_NODES
from comfy_worker.simulator.nodes.models import MODEL_NODES
from comfy_worker.simulator.nodes.probes import PROBE_NODES
from comfy_worker.simulator.nodes.sampling import SAMPLING_NODES
from comfy_worker.simulator.nodes.saving import SAVING_NODES

__all__ = ["NodeClass", "Options", "node_classes"]


def node_classes(*, probes: bool = False) -> Mapping[str, NodeClass]:
    """Return the node classes by name; `probes` adds the test nodes of the recordings."""
    classes = MODEL_NODES + SAMPLING_NODES + IMAGE_NODES + SAVING_NODES
    if probes:
        classes += PROBE_NODES
    return {node_class.name: node_class for node_class in classes}
