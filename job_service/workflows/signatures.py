"""What node classes take and give, as the workers' ComfyUIs have said."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.workflows.exact_json import ExactNumber

ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class InputSignature:
    """What one input takes.

    ``type`` may join several by commas. ``choices`` is None where the values are not listed.
    ``has_control_widget``: saved workflows hold a value for what happens after a run behind it.
    ``awaited``: a name that is not listed is waited for, because a job goes where it is.
    """

    name: str
    type: str
    required: bool = False
    minimum: int | float | None = None
    maximum: int | float | None = None
    choices: tuple[str, ...] | None = None
    is_widget: bool = False
    has_control_widget: bool = False
    is_upload: bool = False
    awaited: bool = False

    @property
    def types(self) -> frozenset[str]:
        """The single types."""
        return types_of(self.type)

    @property
    def is_dynamic(self) -> bool:
        """Whether it stands for inputs of other names ("images.image0"), which are not listed."""
        return self.type.startswith("COMFY_") and "MATCHTYPE" not in self.type

    def takes_choice(self, value: Any) -> bool:
        """Whether ``value`` is among the listed ones, numbers compared by value."""
        assert self.choices is not None
        if choice_text(value) in self.choices or (self.awaited and isinstance(value, str)):
            return True
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # 1, 1.0 and 1e0 are one number to ComfyUI.
        whole = [str(int(value))] if value == int(value) else []
        exact = [repr(float(value))] if float(value) == value else []
        return any(text in self.choices for text in whole + exact)


@dataclass(frozen=True, slots=True)
class NodeSignature:
    """What one node class takes and gives; inputs by name in ComfyUI's order."""

    class_type: str
    inputs: Mapping[str, InputSignature]
    output_types: tuple[str, ...] = ()
    is_output_node: bool = False


class NodeSignatures(Mapping[str, NodeSignature]):
    """Signatures by class. Empty: nothing is known, checks that need them cannot be made.

    ``unsigned`` are classes that are offered but of which no more is known.
    """

    def __init__(
        self, signatures: Iterable[NodeSignature] = (), unsigned: Iterable[str] = ()
    ) -> None:
        self._by_class = {signature.class_type: signature for signature in signatures}
        self.unsigned = frozenset(unsigned) - self._by_class.keys()
        self._sorted: tuple[str, ...] | None = None
        self._linked_types: frozenset[str] | None = None

    def __getitem__(self, class_type: str) -> NodeSignature:
        return self._by_class[class_type]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_class)

    def __len__(self) -> int:
        return len(self._by_class)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes that are offered, sorted."""
        if self._sorted is None:
            self._sorted = tuple(sorted(self._by_class.keys() | self.unsigned))
        return self._sorted

    @property
    def linked_types(self) -> frozenset[str]:
        """The types that some class puts out: an input of such a type takes a link."""
        if self._linked_types is None:
            self._linked_types = frozenset(
                each
                for signature in self._by_class.values()
                for output in signature.output_types
                for each in types_of(output)
            )
        return self._linked_types

    def input(self, class_type: str, name: str) -> InputSignature | None:
        """The signature of one input, if it is known."""
        signature = self._by_class.get(class_type)
        return signature.inputs.get(name) if signature else None

    @classmethod
    def from_catalogues(
        cls, catalogues: Iterable[pb.BackendCatalogue], awaited: Container[tuple[str, str]] = ()
    ) -> "NodeSignatures":
        """Join what several ComfyUIs say: what any of them takes is fine.

        ``awaited``: classes with inputs, see ``InputSignature``.
        """
        joined: dict[str, NodeSignature] = {}
        offered: set[str] = set()
        for catalogue in catalogues:
            offered.update(catalogue.node_classes)
            lists = [tuple(each.values) for each in catalogue.choice_lists]
            for message in catalogue.node_signatures:
                signature = _node_signature(message, lists, awaited)
                known = joined.get(signature.class_type)
                if known is None:
                    joined[signature.class_type] = signature
                elif known != signature:
                    joined[signature.class_type] = _join_nodes(known, signature)
        return cls(joined.values(), offered)


def types_of(joined: str) -> frozenset[str]:
    """The single types of a type text that joins several by commas."""
    return frozenset(each.strip() for each in joined.split(","))


def is_any(type_text: str) -> bool:
    """Whether a type stands for all, as "*" and the newer nodes' matching types do."""
    return ANY in types_of(type_text) or type_text.startswith("COMFY_")


def choice_text(value: Any) -> str:
    """A value of a choice list as the contract writes it: numbers as their JSON text."""
    match value:
        case bool():
            return "true" if value else "false"
        case ExactNumber():
            return value.text
        case _:
            return str(value)


def _node_signature(
    message: pb.NodeSignature,
    lists: list[tuple[str, ...]],
    awaited: Container[tuple[str, str]],
) -> NodeSignature:
    return NodeSignature(
        message.class_type,
        {
            each.name: _input_signature(
                each, lists, awaited=(message.class_type, each.name) in awaited
            )
            for each in message.inputs
        },
        tuple(message.output_types),
        message.is_output_node,
    )


def _input_signature(
    message: pb.NodeInputSignature, lists: list[tuple[str, ...]], *, awaited: bool
) -> InputSignature:
    has_list = message.HasField("choice_list") and 0 <= message.choice_list < len(lists)
    return InputSignature(
        name=message.name,
        type=message.type,
        required=message.required,
        minimum=_bound(message.type, message.minimum) if message.HasField("minimum") else None,
        maximum=_bound(message.type, message.maximum) if message.HasField("maximum") else None,
        choices=lists[message.choice_list] if has_list else None,
        is_widget=message.is_widget,
        has_control_widget=message.has_control_widget,
        is_upload=message.is_upload,
        awaited=awaited,
    )


def _bound(type_text: str, bound: float) -> int | float:
    """A bound as ComfyUI has it.

    It travels as a double, which rounds 2^64-1, the bound of seeds, to 2^64, and others likewise.
    """
    if type_text != "INT" or abs(bound) < 2**53 or not isfinite(bound):
        return bound
    whole = int(bound)
    if abs(whole) & (abs(whole) - 1):
        return whole
    return whole - 1 if whole > 0 else whole + 1


def _join_nodes(one: NodeSignature, other: NodeSignature) -> NodeSignature:
    inputs = {name: _join_inputs(each, other.inputs.get(name)) for name, each in one.inputs.items()}
    inputs |= {
        name: _join_inputs(each, None) for name, each in other.inputs.items() if name not in inputs
    }
    longer, shorter = sorted((one.output_types, other.output_types), key=len, reverse=True)
    outputs = tuple(
        _join_types(each, shorter[slot]) if slot < len(shorter) else each
        for slot, each in enumerate(longer)
    )
    return NodeSignature(
        one.class_type, inputs, outputs, one.is_output_node or other.is_output_node
    )


def _join_inputs(one: InputSignature, other: InputSignature | None) -> InputSignature:
    """Widest of both; an input that one ComfyUI lacks is not required."""
    if one == other:
        return one
    return InputSignature(
        name=one.name,
        type=_join_types(one.type, other.type) if other else one.type,
        required=one.required and other is not None and other.required,
        minimum=_wider(one.minimum, other.minimum, min) if other else one.minimum,
        maximum=_wider(one.maximum, other.maximum, max) if other else one.maximum,
        choices=_join_choices(one.choices, other.choices) if other else one.choices,
        is_widget=one.is_widget or (other is not None and other.is_widget),
        has_control_widget=one.has_control_widget
        or (other is not None and other.has_control_widget),
        is_upload=one.is_upload or (other is not None and other.is_upload),
        awaited=one.awaited,
    )


def _wider(
    one: float | None, other: float | None, widest: Callable[[float, float], float]
) -> float | None:
    return None if one is None or other is None else widest(one, other)


def _join_choices(
    one: tuple[str, ...] | None, other: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    if one is None or other is None:
        return None
    return tuple(dict.fromkeys((*one, *other)))


def _join_types(one: str, other: str) -> str:
    return one if one == other else ",".join(dict.fromkeys((*one.split(","), *other.split(","))))
