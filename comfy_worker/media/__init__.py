"""What a file is and what it measures, found in its content."""

from comfy_worker.media.measuring import Measures, measure
from comfy_worker.media.media_type import media_type_of

__all__ = ["Measures", "measure", "media_type_of"]
