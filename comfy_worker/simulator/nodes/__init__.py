"""The node classes the simulator has."""

from collections.abc import Mapping

from comfy_worker.simulator.nodes.animations import ANIMATION_NODES
from comfy_worker.simulator.nodes.conditioning import CONDITIONING_NODES
from comfy_worker.simulator.nodes.declaration import NodeClass, Options
from comfy_worker.simulator.nodes.images import IMAGE_NODES
from comfy_worker.simulator.nodes.latents import LATENT_NODES
from comfy_worker.simulator.nodes.media import MEDIA_NODES
from comfy_worker.simulator.nodes.models import MODEL_NODES
from comfy_worker.simulator.nodes.parts import PART_NODES
from comfy_worker.simulator.nodes.probes import PROBE_NODES
from comfy_worker.simulator.nodes.sampling import SAMPLING_NODES
from comfy_worker.simulator.nodes.saving import SAVING_NODES
from comfy_worker.simulator.nodes.showing import SHOWING_NODES

__all__ = ["NodeClass", "Options", "node_classes"]


def node_classes(*, probes: bool = False) -> Mapping[str, NodeClass]:
    """Return the node classes by name; `probes` adds the test nodes of the recordings."""
    classes = (
        *(*MODEL_NODES, *PART_NODES, *CONDITIONING_NODES),
        *(*LATENT_NODES, *SAMPLING_NODES, *IMAGE_NODES),
        *(*SAVING_NODES, *ANIMATION_NODES, *MEDIA_NODES, *SHOWING_NODES),
    )
    if probes:
        classes = (*classes, *PROBE_NODES)
    return {node_class.name: node_class for node_class in classes}
