"""Driving a ComfyUI: graphs in, outcomes and files out.

:class:`ComfyBackend` is the way in; everything else here is what it takes and gives.
"""

from comfy_worker.comfyui.backend import ComfyBackend
from comfy_worker.comfyui.catalogue import Catalogue
from comfy_worker.comfyui.client import Timeouts
from comfy_worker.comfyui.driver_settings import DriverSettings
from comfy_worker.comfyui.errors import (
    ComfyError,
    ComfyUnreachableError,
    OutputMissingError,
    OutputTooLargeError,
    UnexpectedAnswerError,
)
from comfy_worker.comfyui.events import PreviewImage
from comfy_worker.comfyui.failures import Failure, FailureCode
from comfy_worker.comfyui.forbidden_paths import leads_away
from comfy_worker.comfyui.graph import Graph, Lora, TextToImage, build_text_to_image
from comfy_worker.comfyui.graph_text import (
    GraphTextError,
    parse_graph,
    texts_in,
    with_texts_replaced,
)
from comfy_worker.comfyui.node_signatures import (
    InputSignature,
    NodeSignature,
    NodeSignatures,
    node_signatures_of,
)
from comfy_worker.comfyui.outcomes import (
    Cancellation,
    Failed,
    Interrupted,
    LossReason,
    Lost,
    Outcome,
    Succeeded,
)
from comfy_worker.comfyui.outputs import OutputFile, OutputText
from comfy_worker.comfyui.progress import Phase, Progress
from comfy_worker.comfyui.reporting import Observers
from comfy_worker.comfyui.sent_pictures import SentPicture
from comfy_worker.comfyui.server_info import ServerInfo
from comfy_worker.comfyui.transport import Download
from comfy_worker.comfyui.uploads import Uploads

__all__ = [
    "Cancellation",
    "Catalogue",
    "ComfyBackend",
    "ComfyError",
    "ComfyUnreachableError",
    "Download",
    "DriverSettings",
    "Failed",
    "Failure",
    "FailureCode",
    "Graph",
    "GraphTextError",
    "InputSignature",
    "Interrupted",
    "Lora",
    "LossReason",
    "Lost",
    "NodeSignature",
    "NodeSignatures",
    "Observers",
    "Outcome",
    "OutputFile",
    "OutputMissingError",
    "OutputText",
    "OutputTooLargeError",
    "Phase",
    "PreviewImage",
    "Progress",
    "SentPicture",
    "ServerInfo",
    "Succeeded",
    "TextToImage",
    "Timeouts",
    "UnexpectedAnswerError",
    "Uploads",
    "build_text_to_image",
    "leads_away",
    "node_signatures_of",
    "parse_graph",
    "texts_in",
    "with_texts_replaced",
]
