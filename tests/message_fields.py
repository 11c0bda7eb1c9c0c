"""The fields of a message, those of the messages in it too, and how to put values there."""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Path = tuple[FieldDescriptor, ...]


def paths(
    descriptor: Descriptor, wanted: Callable[[FieldDescriptor], bool], before: Path = ()
) -> Iterator[Path]:
    """Where the wanted fields are; a message within its own kind is not entered."""
    for field in descriptor.fields:
        if wanted(field):
            yield (*before, field)
        inner = field.message_type
        if inner is not None and inner not in {step.containing_type for step in (*before, field)}:
            yield from paths(inner, wanted, (*before, field))


def is_text(field: FieldDescriptor) -> bool:
    """Whether a field holds text; keys and values of maps do."""
    return field.type == FieldDescriptor.TYPE_STRING


def shown(path: Path) -> str:
    """The path as errors name it: ``job.sampler.seed``."""
    return ".".join(field.name for field in path)


def put(message: Message, path: Path, value: Any) -> None:
    """Put a value into a message; what is on the way to it is made if it is not there."""
    field, *rest = path
    inner: Any = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if rest[0].name == "key":
            inner[value] = "x"
        else:
            inner["x"] = value
    elif not rest and field.is_repeated:
        inner.append(value)
    elif not rest:
        setattr(message, field.name, value)
    elif field.is_repeated:
        put(inner[0] if inner else inner.add(), tuple(rest), value)
    else:
        inner.SetInParent()
        put(inner, tuple(rest), value)
