"""Strategies for requests of every kind: fine ones, crooked ones, and wild ones."""

from typing import Any

from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

#: Text as protobuf can carry it: everything but surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
_WORDS = st.sampled_from(
    ["", "p", " ", "\0", "{}", '{"a": 1e999}', '{"a": "\\ud800"}', "\u2028", "🗼", "comfyui",
     "00000000-0000-0000-0000-000000000009", "a" * 64, "a" * 256, "x" * 20_001]
)  # fmt: skip
_NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([0, -1, 1, 8, 63, 64, 832, 2048, 2**31 - 1])
    | st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from([0, -1, 1, 2**53, 2**63 - 1, -(2**63)])
    | st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-2, 12),
    FieldDescriptor.CPPTYPE_STRING: TEXT | _WORDS,
}


@st.composite
def create_requests(draw: st.DrawFn) -> pb.CreateJobRequest:
    """A request that is fine but for a few fields of its job, drawn with no respect."""
    request = pb.CreateJobRequest(
        job=job_pb2.GenerationJob(prompt="a lighthouse", checkpoint_model="c")
    )
    fields = list(job_pb2.GenerationJob.DESCRIPTOR.fields)
    for field in draw(st.lists(st.sampled_from(fields), max_size=6, unique=True)):
        _draw_field(draw, request.job, field)
    if draw(st.booleans()):
        request.request_id = draw(TEXT | _WORDS)
    return request


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """Any message of a type, a few of its fields set."""
    return _message(draw, descriptor)


def _message(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    message = GetMessageClass(descriptor)()
    fields = list(descriptor.fields)
    for field in draw(st.lists(st.sampled_from(fields), max_size=3, unique=True)) if fields else ():
        _draw_field(draw, message, field)
    return message


def _draw_field(draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
    submessage = field.message_type
    if submessage is not None and submessage.GetOptions().map_entry:
        for key in draw(st.lists(TEXT | _WORDS, max_size=3)):
            getattr(message, field.name)[key] = draw(TEXT | _WORDS)
    elif field.is_repeated:
        for _ in range(draw(st.integers(0, 3))):
            value = _value(draw, field)
            getattr(message, field.name).append(value)
    elif submessage is not None:
        getattr(message, field.name).CopyFrom(_message(draw, submessage))
    else:
        setattr(message, field.name, _value(draw, field))


def _value(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return _message(draw, field.message_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.binary(max_size=40))
    return draw(_NUMBERS[field.cpp_type])
