"""What the driver's tests run against, and what they make there."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from comfy_worker.comfyui import Graph, Lora
from tests.worker.comfyui.graphs import text_to_image

_seeds = random.SystemRandom()


class OwnServer(Protocol):
    """A server that the tests have started and may kill."""

    @property
    def url(self) -> str: ...

    def kill(self) -> None:
        """End it with SIGKILL."""

    def restart(self) -> None:
        """Start it again at the same URL."""


@dataclass(frozen=True)
class Target:
    """A ComfyUI or the simulator. ``server`` is None where it is not ours to kill."""

    url: str
    checkpoint: str
    lora: str | None
    server: OwnServer | None

    def picture(self, prompt_id: str, *, lora_strength: float = 0.0, **changes: Any) -> Graph:
        """A graph for a small picture; its seed is new, so that nothing of it is cached."""
        loras: Sequence[Lora] = ()
        if self.lora is not None and lora_strength:
            loras = (Lora(self.lora, lora_strength, lora_strength),)
        wanted = {"width": 64, "height": 64, "steps": 2, "seed": new_seed(), **changes}
        return text_to_image(
            checkpoint=self.checkpoint,
            loras=loras,
            **{"filename_prefix": f"conformance/{prompt_id}", **wanted},
        )


def new_id() -> str:
    """A prompt id no server has seen."""
    return str(uuid4())


def new_seed() -> int:
    """A seed nobody has drawn."""
    return _seeds.randrange(2**53)
