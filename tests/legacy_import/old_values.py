"""Strategies for values as former installations hold them: usual ones, crooked ones, wild ones."""

import json
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

_LONGEST_PROMPT: Final = 20_000

#: Text that PostgreSQL takes: everything but NUL and surrogates.
PLAIN: Final = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60
)
TEXTS: Final = PLAIN | st.sampled_from(
    [
        "a red fox in the snow",
        "山の中の赤い狐, ultra detailed",
        "ثعلب أحمر في الثلج",
        "🦊👩‍👩‍👧‍👦🏳️‍🌈",
        "e\u0301 o\u0308 — a\u0308\u0323",
        "\u202eright to left\u202c",
        "line one\nline two\ttab\\n \\u0000 '\"`;--",
        "\\N",
        "a\u2028b\ufeffc\U0010ffff",
    ]
)
BLANKS: Final = st.sampled_from(["", " ", "\t\n", "\u00a0"])
PROMPTS: Final = TEXTS | BLANKS | st.sampled_from(["x", "狐", "🦊"]).map(
    lambda one: one * _LONGEST_PROMPT
)  # fmt: skip


#: Times without zone, microseconds included.
MOMENTS: Final = st.integers(0, 360_000_000_000_000).map(
    lambda microseconds: str(datetime(2015, 1, 1) + timedelta(microseconds=microseconds))  # noqa: DTZ001 - they have none
) | st.sampled_from(
    [
        "2024-03-31 02:30:00",  # not on any clock in Berlin
        "2024-10-27 02:30:00.5",
        "1970-01-01 00:00:00",
        "1969-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59.999999",
    ]
)

#: Times that no message can carry.
UNSPEAKABLE_MOMENTS: Final = ("infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-01-01")


class Pairs(list[tuple[str, Any]]):
    """An object as the text has it: in order, a key perhaps twice."""


class Number(str):
    """A number as the text has it."""

    __slots__ = ()


def written(value: Any) -> str:
    """JSON text of a value, exactly as it is meant."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(one)}" for key, one in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


_NUMBERS: Final = st.sampled_from(
    ["0", "-1", "1.0", "1.50", "0.1", "1e3", "1E-7", "9007199254740993", "18446744073709551615",
     "1.00000000000000000001", "1e400", "123456789012345678901234567890.5"]
).map(Number)  # fmt: skip
_HUGE: Final = st.integers(1_000, 6_000).map(
    lambda n: {f"key {i}": "🦊 and snow " * 4 for i in range(n)}
)


def json_values(*, strict: bool) -> st.SearchStrategy[Any]:
    """Any value. ``strict``: as jsonb takes it; else also what only json takes."""
    texts = TEXTS if strict else TEXTS | st.sampled_from(["\0", "a\0b", "\ud800", "\udfff x"])
    keys = texts | st.sampled_from(["prompt", "steps", "legacy", "sampler_params"])
    scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _NUMBERS | texts

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        pairs = st.tuples(keys, inner)
        objects = st.lists(pairs, max_size=4, unique_by=lambda pair: pair[0]).map(Pairs)
        if not strict:
            objects |= st.lists(pairs, min_size=2, max_size=4).map(
                lambda found: Pairs([*found, (found[0][0], found[1][1])])
            )
        return st.lists(inner, max_size=4) | objects

    return st.recursive(scalars, containers, max_leaves=8)


def documents(*, strict: bool) -> st.SearchStrategy[str]:
    """Text of any value, now and then a huge one."""
    usual = st.fixed_dictionaries(
        {"style": TEXTS}, optional={"seed": st.integers(-1, 2**63 - 1), "clip_skip": _NUMBERS}
    )
    huge = _HUGE.map(written)
    whole = usual.map(written) | json_values(strict=strict).map(written)
    return st.integers(0, 30).flatmap(lambda n: huge if n == 0 else whole)


def sampler_params(*, strict: bool) -> st.SearchStrategy[str]:
    """Sampler settings: as they should be, with words of other makers, or anything."""
    usual = st.fixed_dictionaries(
        {},
        optional={
            "seed": st.sampled_from([-1, 0, 42, 2**53 + 1, 2**63 - 1, 2**64 - 1]),
            "steps": st.sampled_from([20, 28, 150]),
            "cfg": st.sampled_from([7, 7.5, 0.1]),
            "sampler_name": st.sampled_from(["euler", "dpmpp_2m"]),
            "scheduler": st.sampled_from(["normal", "karras"]),
            "denoise": st.sampled_from([1, 1.0, 0.35]),
        },
    )
    odd = st.fixed_dictionaries(
        {},
        optional={
            "seed": st.sampled_from(["42", 1.5, None]),
            "steps": st.sampled_from(["20", 20.5, None, 100_000, 2**40]),
            "cfg": st.sampled_from(["7", None, [7]]),
            "sampler_name": st.sampled_from([None, 3, "s" * 70]),
            "eta": _NUMBERS,
            "clip_skip": st.just(2),
        },
    )
    anything = json_values(strict=strict)
    return (usual | usual | odd | anything).map(written)


def lora_models(*, strict: bool) -> st.SearchStrategy[str]:
    """LoRAs: lists of objects in some vocabulary, lists of names, or anything."""
    strengths = st.sampled_from([0, 0.8, 1, -0.35, 3])
    one = (
        st.fixed_dictionaries(
            {"name": st.sampled_from(["detail.safetensors", "Füchse 🦊.safetensors"])},
            optional={"strength_model": strengths, "strength_clip": strengths},
        )
        | st.fixed_dictionaries({"name": st.just("detail"), "strength": strengths})
        | st.fixed_dictionaries({"lora_name": st.just("detail"), "weight": st.just("0.5")})
        | st.sampled_from(["detail.safetensors", None, 3])
    )
    return (st.lists(one, max_size=3) | json_values(strict=strict)).map(written)


_FILES: Final = st.sampled_from(
    ["2024/05/fox_00001_.png", "fox.png", "ComfyUI_00001_.webp", "/srv/output/a/b.png",
     "Füchse/🦊 im Schnee.jpg", "../../etc/passwd", "", "a" * 300 + ".png", "clip.mp4", "no-ending",
     "http://127.0.0.1:8188/view?filename=a.png"]
)  # fmt: skip


def paths(*, strict: bool) -> st.SearchStrategy[str]:
    """Paths of files: a list as it should be, or whatever else was written there."""
    usual = st.lists(_FILES, max_size=4)
    described = st.lists(
        st.fixed_dictionaries({"filename": _FILES, "subfolder": TEXTS, "type": st.just("output")}),
        max_size=2,
    )
    named = st.dictionaries(st.sampled_from(["150", "300", "600", "images"]), _FILES, max_size=3)
    anything = json_values(strict=strict)
    return (usual | usual | described | named | _FILES | anything).map(written)


STATUSES: Final = st.sampled_from(
    ["pending", "running", "processing", "started", "completed", "failed", "cancelled"]
)
ODD_STATUSES: Final = st.sampled_from(["COMPLETED", "canceled", "queued", "", "dead", "успех"])
JOB_TYPES: Final = st.sampled_from(
    ["text", "image", "video", "audio", "text_generation", "image_generation", "video_generation",
     "audio_generation"]
)  # fmt: skip
ODD_JOB_TYPES: Final = st.sampled_from(["IMAGE", "music", "", "3d"])
SIZES: Final = st.sampled_from(["64", "512", "832", "1216", "2048", "8192"])
ODD_SIZES: Final = st.sampled_from(["0", "-8", "63", "833", "8200", "2147483647", "-2147483648"])
BATCHES: Final = st.sampled_from(["1", "2", "8", "1024"])
ODD_BATCHES: Final = st.sampled_from(["0", "-1", "1025", "2147483647"])
CHECKPOINTS: Final = st.sampled_from(["sdxl.safetensors", "папка/модель.ckpt", "c" * 255])
