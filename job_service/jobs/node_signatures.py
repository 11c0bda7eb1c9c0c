"""What the node classes of a ComfyUI take and give, as a worker reports it: checked and packed."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from typing import Final, Self

from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.jobs.fields import FieldChecks

MAX_CLASSES: Final = 20_000
MAX_INPUTS: Final = 2_000
MAX_OUTPUTS: Final = 1_000
MAX_CHOICE_LISTS: Final = 20_000
_MAX_NAME: Final = 255
_MAX_TYPE: Final = 4_096
_MAX_CHOICE: Final = 4_096
#: Violations after which the rest is not looked at: more do not fit into an answer.
_MAX_VIOLATIONS: Final = 20
#: Most of zlib's effect for a third of its default's time.
_COMPRESSION: Final = 3


@dataclass(frozen=True, slots=True)
class PackedSignatures:
    """Signatures under the SHA-256 of what they say.

    ``content`` is a serialised BackendCatalogue of ``node_signatures`` and ``choice_lists`` only,
    compressed by zlib.
    """

    digest: bytes
    content: bytes

    @classmethod
    def of(cls, catalogue: pb.BackendCatalogue) -> Self | None:
        """Pack what a catalogue says of its nodes; None: it says nothing."""
        if not catalogue.node_signatures:
            return None
        said = pb.BackendCatalogue(
            node_signatures=catalogue.node_signatures, choice_lists=catalogue.choice_lists
        ).SerializeToString(deterministic=True)
        return cls(hashlib.sha256(said).digest(), zlib.compress(said, _COMPRESSION))


def unpacked(content: bytes) -> tuple[pb.BackendCatalogue, int]:
    """The signatures in ``PackedSignatures.content``, and how many bytes they have serialised."""
    said = zlib.decompress(content)
    return pb.BackendCatalogue.FromString(said), len(said)


def check_signatures(checks: FieldChecks, path: str, catalogue: pb.BackendCatalogue) -> None:
    """Note what is wrong with a catalogue's signatures and choice lists.

    Only what would make them ambiguous or too large: node packs declare strange things, and one
    strange node must not keep a ComfyUI from getting jobs.
    """
    for count, violation in enumerate(_violations(catalogue), start=1):
        checks.wrong(f"{path}.{violation[0]}", violation[1])
        if count == _MAX_VIOLATIONS:
            break


def _violations(catalogue: pb.BackendCatalogue) -> Iterator[tuple[str, str]]:
    # Paths are made only for what is wrong: there are some ten thousand inputs to look at.
    if len(catalogue.node_signatures) > MAX_CLASSES:
        yield "node_signatures", _too_many(MAX_CLASSES, len(catalogue.node_signatures))
        return
    if len(catalogue.choice_lists) > MAX_CHOICE_LISTS:
        yield "choice_lists", _too_many(MAX_CHOICE_LISTS, len(catalogue.choice_lists))
        return
    for n, choices in enumerate(catalogue.choice_lists):
        for m, value in enumerate(choices.values):
            if len(value) > _MAX_CHOICE:
                yield f"choice_lists[{n}].values[{m}]", _too_long(_MAX_CHOICE, value)
    seen: set[str] = set()
    lists = len(catalogue.choice_lists)
    for n, signature in enumerate(catalogue.node_signatures):
        for at, description in _of_class(signature, lists):
            yield f"node_signatures[{n}].{at}", description
        if signature.class_type in seen:
            yield (
                f"node_signatures[{n}].class_type",
                f"is the class of another signature too: {signature.class_type!r}",
            )
        seen.add(signature.class_type)


def _of_class(signature: pb.NodeSignature, lists: int) -> Iterator[tuple[str, str]]:
    if not signature.class_type:
        yield "class_type", "is required"
    if len(signature.class_type) > _MAX_NAME:
        yield "class_type", _too_long(_MAX_NAME, signature.class_type)
    if len(signature.inputs) > MAX_INPUTS:
        yield "inputs", _too_many(MAX_INPUTS, len(signature.inputs))
        return
    if len(signature.output_types) > MAX_OUTPUTS:
        yield "output_types", _too_many(MAX_OUTPUTS, len(signature.output_types))
        return
    for n, name in enumerate(signature.output_types):
        if len(name) > _MAX_TYPE:
            yield f"output_types[{n}]", _too_long(_MAX_TYPE, name)
    for n, one in enumerate(signature.inputs):
        for at, description in _of_input(one, lists):
            yield f"inputs[{n}].{at}", description


def _of_input(one: pb.NodeInputSignature, lists: int) -> Iterator[tuple[str, str]]:
    if len(one.name) > _MAX_NAME:
        yield "name", _too_long(_MAX_NAME, one.name)
    if len(one.type) > _MAX_TYPE:
        yield "type", _too_long(_MAX_TYPE, one.type)
    if isnan(one.minimum):
        yield "minimum", "must be a number"
    if isnan(one.maximum):
        yield "maximum", "must be a number"
    if one.HasField("choice_list") and not 0 <= one.choice_list < lists:
        yield (
            "choice_list",
            f"must be the position of one of {lists:,} lists, is {one.choice_list:,}",
        )


def _too_many(most: int, count: int) -> str:
    return f"must have at most {most:,} entries, has {count:,}"


def _too_long(longest: int, text: str) -> str:
    return f"must have at most {longest:,} characters, has {len(text):,}"
