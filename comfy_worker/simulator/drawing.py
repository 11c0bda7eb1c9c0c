"""Pictures drawn from a prompt and a seed.

The same picture is the same to the last pixel, on every machine with the same Pillow; another
prompt has other colours and another motif, another seed another composition.
"""

import colorsys
import dataclasses
import hashlib
import io
import math
import random
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Color: TypeAlias = tuple[int, int, int]
Motif: TypeAlias = Callable[[Image.Image, random.Random, Sequence[Color]], None]

PREVIEW_SIDE = 512
"""Longest side of a preview frame in pixels (recordings 12 and 14)."""

PREVIEW_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Guide:
    """A picture whose forms show in what is drawn, from not at all (0) to fully (1 and more)."""

    image: Image.Image
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything a sampled picture depends on.

    Attributes:
        prompt: What it shows; also written small into it.
        negative_prompt: What it does not show.
        seed: Seed of the sampler.
        index: Its place in the batch, from 0.
        width: In pixels.
        height: In pixels.
        style: Checkpoint, LoRAs and sampler settings, in any form.
        base: The picture it started from, if any.
        denoise: How much of `base` is drawn over, 0 to 1.
        mask: Where `base` is drawn over at all (white); None for everywhere.
        guides: What its forms follow.

    """

    prompt: str
    negative_prompt: str
    seed: int
    index: int
    width: int
    height: int
    style: str
    base: Image.Image | None = None
    denoise: float = 1.0
    mask: Image.Image | None = None
    guides: tuple[Guide, ...] = ()


def draw(picture: Picture) -> Image.Image:
    """Draw a picture: RGB, in its full size."""
    theme = _random("theme", picture.prompt, picture.style.split("|", 1)[0])
    layout = _random(
        *("layout", picture.prompt, picture.negative_prompt, picture.style),
        *(str(picture.seed), str(picture.index)),
    )
    palette = _palette(theme, layout)
    motif = theme.choice(_MOTIFS)
    image = _backdrop(picture.width, picture.height, layout, palette)
    motif(image, layout, palette)
    image = image.filter(ImageFilter.SMOOTH)
    for guide in picture.guides:
        forms = guide.image.convert("RGB").resize(image.size)
        followed = ImageChops.overlay(image, forms)
        image = Image.blend(image, followed, min(max(guide.strength, 0.0), 1.0))
    if picture.base is None:
        _caption(image, picture)
        return image
    base = picture.base.convert("RGB").resize(image.size)
    image = Image.blend(base, image, picture.denoise)
    _caption(image, picture)
    if picture.mask is None:
        return image
    return Image.composite(image, base, picture.mask.convert("L").resize(image.size))


def sketch(picture: Picture, longest_side: int) -> Image.Image:
    """Draw a picture so that its longer side has `longest_side` pixels."""
    scale = longest_side / max(picture.width, picture.height)
    width = max(8, round(picture.width * scale))
    height = max(8, round(picture.height * scale))
    return draw(dataclasses.replace(picture, width=width, height=height))


def preview_frame(image: Image.Image, fraction: float) -> bytes:
    """Return the JPEG a sampler would show when `fraction` (0 to 1) of its steps are done."""
    width, height = image.size
    detail = 0.02 + 0.98 * fraction**2
    coarse = (max(2, round(width * detail)), max(2, round(height * detail)))
    blurred = image.resize(coarse, Image.Resampling.BOX).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    buffer = io.BytesIO()
    blurred.save(buffer, format="JPEG", quality=PREVIEW_QUALITY)
    return buffer.getvalue()


def _random(*parts: str) -> random.Random:
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return random.Random(digest)  # noqa: S311 - repeatable on purpose


def _palette(theme: random.Random, layout: random.Random) -> list[Color]:
    """Return six colours from dark to light: the prompt's hues, nudged by the seed."""
    hue = theme.random() + layout.uniform(-0.03, 0.03)
    spread = theme.choice((0.06, 0.12, 0.33, 0.5))
    saturation = theme.uniform(0.35, 0.7)
    colors = []
    for step in range(6):
        lightness = 0.18 + 0.13 * step
        shade = colorsys.hls_to_rgb((hue + spread * (step % 3) / 2) % 1, lightness, saturation)
        red, green, blue = (round(channel * 255) for channel in shade)
        colors.append((red, green, blue))
    return colors


def _backdrop(
    width: int, height: int, layout: random.Random, palette: Sequence[Color]
) -> Image.Image:
    """Return a soft gradient between a few random points of the palette."""
    columns, rows = 4, 5
    mesh = Image.new("RGB", (columns, rows))
    for row in range(rows):
        for column in range(columns):
            place = (1 - row / (rows - 1)) * (len(palette) - 2) + layout.uniform(0, 1.6)
            mesh.putpixel((column, row), palette[min(int(place), len(palette) - 1)])
    return mesh.resize((width, height), Image.Resampling.BICUBIC)


def _disc(
    image: Image.Image, center: tuple[float, float], radius: float, color: Color, alpha: int
) -> None:
    """Paint a disc with a soft rim."""
    side = max(4, round(radius * 2.5))
    small = min(side, 160)
    mask = Image.new("L", (small, small), 0)
    rim = small * 0.1
    ImageDraw.Draw(mask).ellipse((rim, rim, small - rim, small - rim), fill=alpha)
    mask = mask.filter(ImageFilter.GaussianBlur(small * 0.02)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    place = (round(center[0] - side / 2), round(center[1] - side / 2))
    image.paste(color, (*place, place[0] + side, place[1] + side), mask)


def _ridge(width: int, level: float, swing: float, layout: random.Random) -> list[tuple[int, int]]:
    """Return the upper edge of a hill or a wave: a sum of sines around `level`."""
    waves = [(layout.uniform(0.5, 5), layout.random() * math.tau) for _ in range(4)]
    points = []
    for x in range(0, width + 8, max(1, width // 160)):
        height = sum(
            math.sin(x / width * math.tau * speed + phase) / speed for speed, phase in waves
        )
        points.append((x, round(level + swing * height)))
    return points


def _landscape(image: Image.Image, layout: random.Random, palette: Sequence[Color]) -> None:
    width, height = image.size
    sun = (layout.uniform(0.2, 0.8) * width, layout.uniform(0.15, 0.45) * height)
    radius = layout.uniform(0.08, 0.16) * min(width, height)
    _disc(image, sun, radius * 2.2, palette[-1], 70)
    _disc(image, sun, radius, palette[-1], 235)
    pen = ImageDraw.Draw(image)
    layers = layout.randint(4, 6)
    for layer in range(layers):
        level = height * (0.5 + 0.45 * layer / layers)
        points = _ridge(width, level, height * 0.05, layout)
        shade = palette[max(0, len(palette) - 2 - layer)]
        pen.polygon([*points, (width + 8, height), (0, height)], fill=shade)


def _orbs(image: Image.Image, layout: random.Random, palette: Sequence[Color]) -> None:
    width, height = image.size
    for _ in range(layout.randint(18, 30)):
        center = (layout.random() * width, layout.random() * height)
        radius = layout.uniform(0.02, 0.16) * min(width, height)
        _disc(image, center, radius, layout.choice(palette[2:]), layout.randint(60, 190))


def _waves(image: Image.Image, layout: random.Random, palette: Sequence[Color]) -> None:
    width, height = image.size
    pen = ImageDraw.Draw(image)
    layers = layout.randint(7, 11)
    for layer in range(layers):
        level = height * (0.12 + 0.85 * layer / layers)
        points = _ridge(width, level, height * layout.uniform(0.02, 0.05), layout)
        shade = palette[(layer * 2 + layer // 3) % len(palette)]
        pen.polygon([*points, (width + 8, height), (0, height)], fill=shade)


def _facets(image: Image.Image, layout: random.Random, palette: Sequence[Color]) -> None:
    width, height = image.size
    columns, rows = layout.randint(5, 8), layout.randint(6, 10)
    jitter = 0.25

    def corner(column: int, row: int) -> tuple[float, float]:
        inside_x, inside_y = 0 < column < columns, 0 < row < rows
        x = column + (layout.uniform(-jitter, jitter) if inside_x else 0)
        y = row + (layout.uniform(-jitter, jitter) if inside_y else 0)
        return x * width / columns, y * height / rows

    grid = [[corner(column, row) for column in range(columns + 1)] for row in range(rows + 1)]
    pen = ImageDraw.Draw(image)
    for row in range(rows):
        for column in range(columns):
            upper_left, upper_right = grid[row][column], grid[row][column + 1]
            lower_left, lower_right = grid[row + 1][column], grid[row + 1][column + 1]
            for triangle in (
                (upper_left, upper_right, lower_left),
                (upper_right, lower_right, lower_left),
            ):
                place = (1 - row / rows) * 3 + layout.uniform(0, 1.9)
                pen.polygon(triangle, fill=_between(palette, place))


def _between(palette: Sequence[Color], place: float) -> Color:
    """Return the colour at a fractional place of the palette."""
    lower = palette[int(place)]
    upper = palette[min(int(place) + 1, len(palette) - 1)]
    share = place - int(place)
    red, green, blue = (
        round(low + (high - low) * share) for low, high in zip(lower, upper, strict=True)
    )
    return red, green, blue


_MOTIFS: tuple[Motif, ...] = (_landscape, _orbs, _waves, _facets)


def _caption(image: Image.Image, picture: Picture) -> None:
    """Write the prompt (two lines of it at most) and the seed small at the lower edge."""
    width, height = image.size
    if min(width, height) < 96:
        return
    size = max(10, width // 52)
    font = ImageFont.load_default(size)
    text = " ".join(picture.prompt.encode("utf-8", "replace").decode().split())
    lines = textwrap.wrap(text, width=max(10, int(width / size * 1.75)))
    lines = [*lines[:1], textwrap.shorten(" ".join(lines[1:]), 90)] if len(lines) > 1 else lines
    checkpoint = picture.style.split("|", 1)[0]
    lines.append(f"seed {picture.seed} · {picture.index + 1} · {checkpoint}")
    line_height = round(size * 1.4)
    band = (0, height - line_height * len(lines) - size, width, height)
    image.paste((12, 12, 16), band, Image.new("L", (width, band[3] - band[1]), 130))
    pen = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        place = (size, band[1] + size // 2 + index * line_height)
        pen.text(place, line, fill=(238, 238, 240), font=font)
