"""Requests from the contract's descriptors: valid protobuf, hostile values; and broken protobuf."""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.known_values import KnownValues
from tests.message_fields import paths, put

_ORDINARY: Final = (
    "a lighthouse",
    "sdxl.safetensors",
    "euler",
    "comfyui",
    "gpu0",
    "1",
    "picture.png",
    "image/png",
    "00000000-0000-0000-0000-000000000009",
    "{}",
    '{"1": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}',
)
_INTEGERS: Final = (0, 1, -1, 2, 7, 8, 64, 100, 512, 1000, 2**31 - 1, -(2**31))
_LARGE: Final = (2**53, 2**63 - 1, -(2**63), 253402300800, -62135596801)
_DOUBLES: Final = (0.0, -0.0, 0.5, 1.0, 1e308, -1e308, 5e-324, float("inf"), float("nan"), 30.1)
_OTHERS: Final[dict[int, Sequence[Any]]] = {
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_DOUBLE: _DOUBLES,
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 3, 4, 5, 6, 99, -1, 2**31 - 1),
}
#: How deep messages are put into messages, where the contract lets them.
_DEEPEST: Final = 6


class HostileMessages:
    """Makes requests; the same ones from the same random numbers."""

    def __init__(self, random: Random, known: KnownValues, texts: Sequence[str]) -> None:
        self._random = random
        self._known = known
        self._texts = texts

    def requests(self, method: MethodDescriptor) -> list[Message]:
        """The messages of one call: anything, or what the service takes but for a few fields."""
        if self._random.random() < 0.6:
            sent = self._known.valid(method)
            for _ in range(self._random.choice((0, 1, 1, 1, 2, 4))):
                self._change(self._random.choice(sent), method.input_type)
            return sent
        count = self._random.choice((0, 1, 2, 2, 3, 6)) if method.client_streaming else 1
        return [self.message(method.input_type) for _ in range(count)]

    def _change(self, message: Message, descriptor: Descriptor) -> None:
        fields = list(paths(descriptor, lambda field: field.message_type is None))
        if fields:
            path = self._random.choice(fields)
            put(message, path, self._value(path[-1], 0))

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """Some fields set, most of them to what they are for, others to what they are not."""
        known = self._known.message(self._random, descriptor.name)
        if known is not None and self._random.random() < 0.8:
            return known  # type: ignore[no-any-return]
        message = GetMessageClass(descriptor)()
        density = self._random.choice((0.15, 0.4, 0.9))
        for field in descriptor.fields:
            if self._random.random() < density:
                self._set(message, field, depth)
        return message

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        submessage = field.message_type
        if submessage is not None and depth >= _DEEPEST:
            return
        if submessage is not None and submessage.GetOptions().map_entry:
            for _ in range(self._random.randrange(4)):
                key, value = (self._value(one, depth) for one in submessage.fields)
                getattr(message, field.name)[key] = value
        elif field.is_repeated:
            for _ in range(self._random.choice((0, 1, 1, 2, 3, 70))):
                getattr(message, field.name).append(self._value(field, depth))
        elif submessage is not None:
            getattr(message, field.name).CopyFrom(self.message(submessage, depth + 1))
        else:
            setattr(message, field.name, self._value(field, depth))

    def _value(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, depth + 1)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._bytes(field)
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self._text(field)
        if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
            wide = field.cpp_type == FieldDescriptor.CPPTYPE_INT64
            return self._integer(field, (*_INTEGERS, *_LARGE) if wide else _INTEGERS)
        return self._random.choice(_OTHERS[field.cpp_type])

    def _text(self, field: FieldDescriptor) -> str:
        known = self._known.text(self._random, field.name)
        if known is not None and self._random.random() < 0.5:
            return known
        if self._random.random() < 0.3:
            return self._random.choice(_ORDINARY)
        if self._random.random() < 0.05:
            return f"w{self._random.getrandbits(64):x}"  # what nobody has said before
        text = self._random.choice(self._texts)
        # Long ones are rare: they make the whole slow, and find little.
        return text if len(text) < 300 or self._random.random() < 0.1 else text[:300]

    def _integer(self, field: FieldDescriptor, others: Sequence[int]) -> int:
        known = self._known.number(self._random, field.name)
        if known is not None and self._random.random() < 0.8:
            return known
        return self._random.choice(others)

    def _bytes(self, field: FieldDescriptor) -> bytes:
        size = 32 if field.name == "sha256" else self._random.choice((0, 1, 32, 300, 5_000))
        return self._random.randbytes(size)


def broken(random: Random, raw: bytes) -> bytes:
    """A serialised message with a few of its bytes wrong, missing, repeated or foreign."""
    data = bytearray(raw or b"\x0a\x02ab")
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        match random.randrange(8):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del data[at : at + random.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + random.randint(1, 30)]
            case 3:
                data[at:at] = b"\xff" * random.randint(1, 12)  # a number without an end
            case 4:
                data[at:at] = b"\x0b" * random.randint(1, 150)  # groups in groups
            case 5:
                data[at:at] = b"\x0a\xff\xff\xff\xff\x07"  # a length beyond the end
            case 6:
                data[at:at] = b"\x0a\x04\xed\xa0\x80\xff"  # no UTF-8
            case _:
                data[at:at] = b"\x07\x00\x00"  # wire type 7, field 0
    return bytes(data)
