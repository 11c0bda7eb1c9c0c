"""The adjustable values of a template: what they take, and checks of a value."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Any, Final

from generation_jobs.v1 import workflow_template_pb2 as pb

from job_service.workflows import exact_json
from job_service.workflows.problems import quoted

MAX_SEED: Final = 2**63 - 1
LONGEST_TEXT: Final = 20_000


class ParameterType(Enum):
    """What values a parameter takes; the value is the contract's."""

    STRING = pb.PARAMETER_TYPE_STRING
    INTEGER = pb.PARAMETER_TYPE_INTEGER
    NUMBER = pb.PARAMETER_TYPE_NUMBER
    BOOLEAN = pb.PARAMETER_TYPE_BOOLEAN
    INPUT = pb.PARAMETER_TYPE_INPUT
    SEED = pb.PARAMETER_TYPE_SEED
    CHOICE = pb.PARAMETER_TYPE_CHOICE


@dataclass(frozen=True, slots=True)
class Target:
    """A node input that receives a parameter's value."""

    node_id: str
    input_name: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One adjustable value, as in ``TemplateParameter``; JSON texts are kept as they came."""

    name: str
    type: ParameterType
    required: bool = False
    default_json: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices_json: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    description: str = ""

    @property
    def default(self) -> Any:
        """The default; None when there is none."""
        return exact_json.loads(self.default_json) if self.default_json else None

    @property
    def choices(self) -> tuple[Any, ...]:
        """The only values allowed; empty: any within the bounds."""
        return tuple(exact_json.loads(each) for each in self.choices_json)

    def value_problem(self, value: Any) -> str | None:
        """Why the parameter does not take ``value``; None: it does, by all that it says itself."""
        problem = self._type_problem(value) or self._bounds_problem(value)
        if problem:
            return problem
        allowed = self.choices
        if allowed and not any(_same(value, each) for each in allowed):
            shown = ", ".join(exact_json.dumps(each) for each in allowed[:20])
            return f"must be one of {shown[:500]}, is {_shown(value)}"
        return None

    def to_proto(self) -> pb.TemplateParameter:
        """The parameter in the words of the contract."""
        message = pb.TemplateParameter(
            name=self.name,
            type=self.type.value,
            required=self.required,
            default_json=self.default_json,
            choices_json=self.choices_json,
            targets=[
                pb.NodeInputRef(node_id=each.node_id, input_name=each.input_name)
                for each in self.targets
            ],
            description=self.description,
        )
        if self.minimum is not None:
            message.minimum = self.minimum
        if self.maximum is not None:
            message.maximum = self.maximum
        return message

    @classmethod
    def from_proto(cls, message: pb.TemplateParameter) -> "Parameter":
        """Read the contract's words. Raises ValueError for a type that is none."""
        return cls(
            name=message.name,
            type=ParameterType(message.type),
            required=message.required,
            default_json=message.default_json,
            minimum=message.minimum if message.HasField("minimum") else None,
            maximum=message.maximum if message.HasField("maximum") else None,
            choices_json=tuple(message.choices_json),
            targets=tuple(Target(each.node_id, each.input_name) for each in message.targets),
            description=message.description,
        )

    def _type_problem(self, value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        match self.type:
            case ParameterType.STRING | ParameterType.INPUT:
                fits, what = isinstance(value, str), "text"
            case ParameterType.INTEGER | ParameterType.SEED:
                fits, what = whole, "a whole number"
            case ParameterType.NUMBER:
                fits, what = whole or (isinstance(value, float) and isfinite(value)), "a number"
            case ParameterType.BOOLEAN:
                fits, what = isinstance(value, bool), "true or false"
            case ParameterType.CHOICE:
                fits, what = isinstance(value, str | int | float), "one of a list"
        return None if fits else f"must be {what}, is {_shown(value)}"

    def _bounds_problem(self, value: Any) -> str | None:
        if isinstance(value, str):
            return self._length_problem(value)
        if isinstance(value, bool):
            return None
        low, high = self.minimum, self.maximum
        if self.type is ParameterType.SEED:
            low, high = max(low or 0, 0), MAX_SEED if high is None else min(high, MAX_SEED)
        if low is not None and not value >= low:
            return f"must be at least {_figure(low)}, is {_shown(value)}"
        if high is not None and not value <= high:
            return f"must be at most {_figure(high)}, is {_shown(value)}"
        return None

    def _length_problem(self, value: str) -> str | None:
        longest = LONGEST_TEXT if self.maximum is None else min(int(self.maximum), LONGEST_TEXT)
        if len(value) > longest:
            return f"must have at most {longest:,} characters, has {len(value):,}"
        if self.minimum is not None and len(value) < self.minimum:
            return f"must have at least {int(self.minimum):,} characters, has {len(value):,}"
        return None


def parameters_from_proto(messages: Iterable[pb.TemplateParameter]) -> tuple[Parameter, ...]:
    """Read several; raises ValueError as ``Parameter.from_proto`` does."""
    return tuple(map(Parameter.from_proto, messages))


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else exact_json.dumps(value)[:40]


def _figure(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"
