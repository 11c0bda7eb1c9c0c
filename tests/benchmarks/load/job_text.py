"""What every system under load is given: a prompt of ordinary length and the usual settings."""

import json
from typing import Any, Final

PROMPT: Final = (
    "a lighthouse on a cliff at dusk, heavy swell, long exposure, warm light in the lantern room, "
    "gulls, volumetric fog, highly detailed, photograph, 35mm"
)
NEGATIVE_PROMPT: Final = "blurry, low quality, watermark, text, jpeg artifacts, oversaturated"

#: For queues that take a document.
DOCUMENT: Final[dict[str, Any]] = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE_PROMPT,
    "checkpoint_model": "sdxl.safetensors",
    "width": 832,
    "height": 1216,
    "sampler": {"seed": 42, "steps": 28, "cfg": 5.5, "sampler_name": "euler"},
}
PAYLOAD: Final = json.dumps(DOCUMENT).encode()
