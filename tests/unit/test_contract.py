"""The contract keeps its own rules, and its committed stubs are those of its .proto files."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

PROTOS = Path(__file__).parents[2] / "protos"
BUF = Path(sys.executable).parent / "buf"
DOCS = PROTOS.parent / "docs"
VERSION = Path("generation_jobs") / "v1"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    subprocess.run(
        [PROTOS / "generate", folder], check=True, env=os.environ | {"PYTHON": sys.executable}
    )
    return folder / VERSION


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference as it is written now."""
    page = tmp_path_factory.mktemp("docs") / "api.md"
    subprocess.run([sys.executable, PROTOS / "document.py", page], check=True)
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    """Every file of the contract, and what it imports."""
    image = tmp_path_factory.mktemp("image") / "contract.binpb"
    files = [str(path.relative_to(PROTOS)) for path in sorted((PROTOS / VERSION).glob("*.proto"))]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", "--include_imports"),
            f"--descriptor_set_out={image}",
            *files,
        ],
        check=True,
        cwd=PROTOS,
    )
    return FileDescriptorSet.FromString(image.read_bytes())


def test_the_committed_stubs_are_those_of_the_proto_files(generated: Path) -> None:
    def stubs(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("*_pb2*.py*")}

    committed, fresh = stubs(PROTOS / VERSION), stubs(generated)

    assert sorted(committed) == sorted(fresh), "run `make protos`"
    stale = [name for name in committed if committed[name] != fresh[name]]
    assert stale == [], "run `make protos`"


def test_the_reference_is_that_of_the_proto_files(reference: str) -> None:
    committed = (DOCS / "api.md").read_text(encoding="utf-8")
    assert committed == reference, "run `make docs`"


def test_the_reference_says_what_everything_is_and_links_to_what_there_is(
    reference: str, contract: FileDescriptorSet
) -> None:
    anchors = re.findall(r'<a id="(\w+)"></a>', reference)
    ours = [file for file in contract.file if file.package == "generation_jobs.v1"]
    rpcs = [rpc for file in ours for service in file.service for rpc in service.method]
    described = {
        *(service.name for file in ours for service in file.service),
        *(rpc.name for rpc in rpcs),
        *(message.name for file in ours for message in file.message_type),
        *(enum.name for file in ours for enum in file.enum_type),
    }

    assert sorted(anchors) == sorted(described)
    linked = set(re.findall(r"\]\(#(\w+)\)", reference))
    assert linked - described == {"messages", "enums"}
    for message in _messages(contract):
        if message.name in described:
            section = reference.partition(f'<a id="{message.name}"></a>')[2].partition("<a id=")[0]
            assert re.findall(r"^\| `(\w+)` \| .+ \| \d+ \| .+ \|$", section, re.MULTILINE) == [
                field.name for field in message.field
            ]
    streaming = [rpc.name for rpc in rpcs if rpc.server_streaming or rpc.client_streaming]
    assert len(re.findall(r"^\*\w+ streaming: ", reference, re.MULTILINE)) == len(streaming)


def test_what_the_reference_links_to_is_there(reference: str) -> None:
    pages = re.findall(r"\]\(([\w-]+\.md)\)", reference)
    assert pages
    assert [page for page in pages if not (DOCS / page).is_file()] == []


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (("  bool deleted = 1;", ""), 'field "1" with name "deleted" on message'),
        (("  bool deleted = 1;", "  int32 deleted = 1;"), 'Field "1" with name "deleted"'),
        (("  rpc RetryJob(RetryJobRequest) returns (RetryJobResponse);", ""), '"RetryJob"'),
        (("  bool deleted = 1;", "  bool deleted = 1;\n  // New.\n  bool more = 999;"), None),
    ],
    ids=["a field is removed", "a type changes", "an RPC is removed", "a field is added"],
)
def test_what_would_break_a_released_client_is_refused(
    change: tuple[str, str], refused: str | None, tmp_path: Path
) -> None:
    shutil.copytree(PROTOS, tmp_path / "protos")
    shutil.copy(PROTOS.parent / "buf.yaml", tmp_path)
    file = tmp_path / "protos" / VERSION / "generation_job_service.proto"
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace(*change), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != before

    check = subprocess.run(
        [BUF, "breaking", "--against", "protos/released.binpb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert check.returncode == (0 if refused is None else 100), check.stderr
    assert (refused or "") in check.stdout


def test_free_json_travels_as_text_and_nothing_is_transcoded(contract: FileDescriptorSet) -> None:
    """A Struct makes every number a double: 9007199254740993 would arrive as …992."""
    imported = {dependency for file in contract.file for dependency in file.dependency}

    assert "google/protobuf/struct.proto" not in imported
    assert "google/protobuf/any.proto" not in imported
    assert not [name for name in imported if name.startswith("google/api/")]


def test_no_two_rpcs_share_a_request(
    contract: FileDescriptorSet,
) -> None:
    uses: dict[str, set[str]] = {}
    for file in contract.file:
        for service in file.service:
            for rpc in service.method:
                uses.setdefault(rpc.input_type, set()).add(f"{service.name}/{rpc.name}")

    shared = {name: rpcs for name, rpcs in uses.items() if len(rpcs) > 1}
    assert shared == {}


def test_ids_and_seeds_have_64_bits(contract: FileDescriptorSet) -> None:
    narrow = [
        f"{message.name}.{field.name}"
        for message in _messages(contract)
        for field in message.field
        if (field.name in ("id", "seed") or field.name.endswith("_id"))
        and field.type
        in (
            descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
            descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
            descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
        )
    ]

    assert narrow == []


def _messages(contract: FileDescriptorSet) -> Iterator[DescriptorProto]:
    def walk(messages: list[DescriptorProto]) -> Iterator[DescriptorProto]:
        for message in messages:
            yield message
            yield from walk(list(message.nested_type))

    for file in contract.file:
        yield from walk(list(file.message_type))
