"""What flows through the links of a graph."""

from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image

from comfy_worker.simulator.drawing import Guide, Picture

Images: TypeAlias = tuple[Image.Image, ...]
"""A value of type IMAGE: a batch of RGB pictures, all of one size."""

Masks: TypeAlias = tuple[Image.Image, ...]
"""A value of type MASK: a batch of grey pictures, white where something is to change."""


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
class ControlNet:
    """A value of type CONTROL_NET."""

    name: str


@dataclass(frozen=True, slots=True)
class UpscaleModel:
    """A value of type UPSCALE_MODEL: makes pictures `factor` times as large."""

    name: str
    factor: int


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A value of type CONDITIONING: a prompt text as one CLIP understands it.

    Attributes:
        text: The prompt.
        clip: The CLIP.
        settings: What else steers the sampling and shows in a picture, in any form.
        guides: Pictures whose forms the sampling follows, each with its strength.

    """

    text: str
    clip: Clip
    settings: tuple[str, ...] = ()
    guides: tuple[Guide, ...] = ()

    def style(self) -> str:
        """Name what of it, besides the text, shows in a picture."""
        return "|".join((self.clip.style(), *self.settings))


@dataclass(frozen=True, slots=True)
class Latent:
    """A value of type LATENT: pictures not decoded yet.

    Attributes:
        width: In pixels.
        height: In pixels.
        batch_size: How many.
        pictures: What a sampler made of it; empty before.
        base: What VAEEncode made it from; empty for an empty latent.
        noise_mask: Where a sampler may change it; empty for everywhere.

    """

    width: int
    height: int
    batch_size: int
    pictures: tuple[Picture, ...] = ()
    base: Images = ()
    noise_mask: Masks = ()
