"""Writes the reference of the contract, ``docs/api.md``, from the comments in its .proto files.

``python protos/document.py [FILE]``. The same .proto files give the same bytes.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

PROTOS: Final = Path(__file__).parent
DEFAULT_FILE: Final = PROTOS.parent / "docs" / "api.md"

_PACKAGE: Final = ".generation_jobs.v1."
_WELL_KNOWN: Final = "https://protobuf.dev/reference/protobuf/google.protobuf/#"
_STATUS_CODE: Final = re.compile(rf"\b({'|'.join(code.name for code in grpc.StatusCode)})\b")

_INTRODUCTION: Final = """\
# The API: `generation_jobs.v1`

Written by `make docs` from the comments in `protos/generation_jobs/v1/`: change it there.

- [From the old API](from-the-old-api.md): every former route, what took its place, and a request
  to try it with.
- [Clients in Node](node.md): 64-bit numbers, deadlines, retries, error details.

**Who calls.** Where tokens are asked for, each call carries one as metadata
(`authorization: Bearer …`). A *client*'s token stands for a user; a *gateway* names in
`x-on-behalf-of` metadata the user (a UUID) that it acts for. Both see and touch what belongs to
that user, and templates that are everybody's; anything else is NOT_FOUND. Without `x-on-behalf-of`
a gateway may create jobs and upload inputs that name their user, watch and count everybody's jobs
(WatchJobs, GetJobStats), and read what is nobody's in particular (the queue, models, everybody's
templates); the rest is PERMISSION_DENIED / USER_REQUIRED. A *worker* calls WorkerService. An
*admin* calls everything; one that sends `x-on-behalf-of` may do what that user may.

**Errors.** Every error carries a `google.rpc.ErrorInfo` of the domain `generation-jobs` whose
`reason` is one of [ErrorReason](#ErrorReason), and where they apply `BadRequest` (every wrong field
with its path), `RetryInfo` and `QuotaFailure`. What the comment of an RPC names is listed with it;
besides, any RPC may answer `INVALID_ARGUMENT` (the request alone is wrong), `UNAVAILABLE` (call
again), `UNAUTHENTICATED`, `PERMISSION_DENIED`, and `UNIMPLEMENTED` (declared, not served by this
version).

**Fields.** *optional*: "not given" and 0 are different things. A field that is output only is
ignored in requests."""

#: Where an element is: its file, then the path that descriptor.proto's SourceCodeInfo gives it.
_Place: TypeAlias = tuple[str | int, ...]


class Reference:
    """The reference of a contract whose descriptors carry their comments."""

    def __init__(self, contract: FileDescriptorSet) -> None:
        self._files = contract.file
        self._comments: dict[_Place, str] = {
            (file.name, *location.path): _unindented(location.leading_comments)
            for file in contract.file
            for location in file.source_code_info.location
        }
        self._messages: dict[str, tuple[_Place, DescriptorProto]] = {
            _PACKAGE + message.name: (place, message)
            for file in contract.file
            for place, message in _elements((file.name,), file, "message_type")
        }
        self._services: list[tuple[_Place, ServiceDescriptorProto]] = [
            placed for file in contract.file for placed in _elements((file.name,), file, "service")
        ]

    def text(self) -> str:
        """The page, in Markdown."""
        sections = [_INTRODUCTION, self._contents()]
        in_rpcs: set[str] = set()
        for place, service in self._services:
            sections += [_heading(2, service.name), self._comments[place]]
            for rpc_place, rpc in _elements(place, service, "method"):
                sections += [_heading(3, rpc.name), self._rpc(rpc_place, rpc)]
                in_rpcs |= {rpc.input_type, rpc.output_type}
        sections.append("## Messages")
        for name, (place, message) in self._messages.items():
            if name not in in_rpcs:
                sections += [_heading(3, message.name), self._message(place, message)]
        sections.append("## Enums")
        for file in self._files:
            for place, enum in _elements((file.name,), file, "enum_type"):
                sections += [_heading(3, enum.name), self._enum(place, enum)]
        return "\n\n".join(sections) + "\n"

    def _contents(self) -> str:
        lines = []
        for _, service in self._services:
            rpcs = " · ".join(f"[{rpc.name}](#{rpc.name})" for rpc in service.method)
            lines.append(f"- [{service.name}](#{service.name}): {rpcs}")
        return "\n".join([*lines, "- [Messages](#messages)", "- [Enums](#enums)"])

    def _rpc(self, place: _Place, rpc: MethodDescriptorProto) -> str:
        comment = self._comments[place]
        parts = [comment, f"*{_kind(rpc)}*"]
        codes = dict.fromkeys(_STATUS_CODE.findall(comment))
        codes.pop("OK", None)
        if codes:
            parts.append("Errors: " + ", ".join(f"`{code}`" for code in codes))
        for name in (rpc.input_type, rpc.output_type):
            parts += [
                _heading(4, name.removeprefix(_PACKAGE)),
                self._message(*self._messages[name]),
            ]
        return "\n\n".join(parts)

    def _message(self, place: _Place, message: DescriptorProto) -> str:
        comment = self._comments[place]
        if not message.field:
            return f"{comment}\n\nNo fields."
        rows = [
            f"| `{field.name}` | {_type(message, field)} | {field.number} | "
            f"{_cell(self._comments[field_place])} |"
            for field_place, field in _elements(place, message, "field")
        ]
        return "\n".join([comment, "", "| field | type | no. | |", "|---|---|---|---|", *rows])

    def _enum(self, place: _Place, enum: EnumDescriptorProto) -> str:
        rows = [
            f"| `{value.name}` | {value.number} | {_cell(self._comments[value_place])} |"
            for value_place, value in _elements(place, enum, "value")
        ]
        return "\n".join([self._comments[place], "", "| value | no. | |", "|---|---|---|", *rows])


def _elements(
    place: _Place,
    descriptor: FileDescriptorProto
    | ServiceDescriptorProto
    | DescriptorProto
    | EnumDescriptorProto,
    kind: str,
) -> Iterator[tuple[_Place, Any]]:
    """What a descriptor holds of a kind, each with its place."""
    number = descriptor.DESCRIPTOR.fields_by_name[kind].number
    elements: Sequence[Any] = getattr(descriptor, kind)
    for n, element in enumerate(elements):
        yield (*place, number, n), element


def _unindented(comment: str) -> str:
    return "\n".join(line.strip() for line in comment.strip().splitlines())


def _heading(level: int, name: str) -> str:
    return f'<a id="{name}"></a>\n\n{"#" * level} {name}'


def _kind(rpc: MethodDescriptorProto) -> str:
    match rpc.client_streaming, rpc.server_streaming:
        case False, False:
            return "Unary: one request, one answer."
        case False, True:
            return "Server streaming: one request, a stream of answers."
        case True, False:
            return "Client streaming: a stream of requests, one answer."
        case _:
            return "Bidirectional streaming."


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    for nested in message.nested_type:
        if field.type_name.endswith(f".{message.name}.{nested.name}") and nested.options.map_entry:
            key, value = nested.field
            return f"map of {_type(nested, key)} to {_type(nested, value)}"
    name = field.type_name or FieldDescriptorProto.Type.Name(field.type)
    if field.type_name.startswith(_PACKAGE):
        name = field.type_name.removeprefix(_PACKAGE)
        shown = f"[{name}](#{name})"
    elif field.type_name.startswith(".google.protobuf."):
        name = field.type_name.removeprefix(".google.protobuf.")
        shown = f"[{name}]({_WELL_KNOWN}{name.lower()})"
    else:
        shown = f"`{name.removeprefix('TYPE_').lower()}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {shown}"
    if field.proto3_optional:
        return f"{shown}, optional"
    if field.HasField("oneof_index"):
        return f"{shown}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return shown


def _cell(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")


def read_contract() -> FileDescriptorSet:
    """The contract's descriptors with their comments."""
    files = sorted(
        str(path.relative_to(PROTOS)) for path in PROTOS.glob("generation_jobs/v1/*.proto")
    )
    with TemporaryDirectory() as folder:
        image = Path(folder) / "contract.binpb"
        subprocess.run(  # noqa: S603  # our own files
            [
                *(sys.executable, "-m", "grpc_tools.protoc", "--proto_path=."),
                *("--include_source_info", f"--descriptor_set_out={image}", *files),
            ],
            cwd=PROTOS,
            check=True,
        )
        return FileDescriptorSet.FromString(image.read_bytes())


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FILE
    target.write_text(Reference(read_contract()).text(), encoding="utf-8")
