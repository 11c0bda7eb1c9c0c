"""What flows through the links of a graph."""

from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image

from comfy_worker.simulator.drawing import Picture

Images: TypeAlias = tuple[Image.Image, ...]
"""A value of type IMAGE: a batch of RGB pictures, all of one size."""


@dataclass(frozen=True, slots=True)
class Model:
    """A value of type MODEL: a checkpoint with the LoRAs applied to it."""

    checkpoint: str
    loras: tuple[str, ...] = ()

    def style(self) -> str:
        """Name what of it shows in a picture."""
        return "|".join((self.checkpoint, *self.loras))


@dataclass(frozen=True, slots=True)
class Clip:
    """A value of type CLIP."""

    checkpoint: str
    loras: tuple[str, ...] = ()
    last_layer: int = -1

    def style(self) -> str:
        """Name what of it shows in a picture."""
        return "|".join((self.checkpoint, *self.loras, str(self.last_layer)))


@dataclass(frozen=True, slots=True)
class Vae:
    """A value of type VAE."""

    name: str


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A value of type CONDITIONING: a prompt text as one CLIP understands it."""

    text: str
    clip: Clip


@dataclass(frozen=True, slots=True)
class Latent:
    """A value of type LATENT: pictures not decoded yet.

    Attributes:
        width: In pixels.
        height: In pixels.
        batch_size: How many.
        pictures: What a sampler made of it; empty before.
        base: What VAEEncode made it from; empty for an empty latent.

    """

    width: int
    height: int
    batch_size: int
    pictures: tuple[Picture, ...] = ()
    base: Images = ()
