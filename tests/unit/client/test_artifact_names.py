"""A name the service sends can neither leave the directory nor drive the terminal."""

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from generation_jobs.v1.artifact_pb2 import Artifact, ArtifactRole
from hypothesis import example, given
from hypothesis import strategies as st

from job_service.client.cli.artifact_names import artifact_filename

_hostile = st.text(
    st.sampled_from([*'/\\.:*?"<>|', "\0", "\n", "\x1b", "\u202e", " ", "é", "a", "😀"])
    | st.characters(exclude_categories=["Cs"]),
    max_size=400,
)
_artifacts = st.builds(
    Artifact,
    id=st.integers(1, 2**63 - 1),
    job_id=st.integers(1, 2**63 - 1),
    position=st.integers(0, 2**31 - 1),
    filename=_hostile,
    content_type=st.sampled_from(["image/png", "image/webp", "video/mp4", ""]),
    role=st.sampled_from([0, 1, 2, 3, 99]),
    thumbnail_size=st.sampled_from([0, 150, 300, 600]),
)


@given(_artifacts)
@example(Artifact(job_id=1, filename="../../etc/passwd"))
@example(Artifact(job_id=1, filename="..\\..\\boot.ini"))
@example(Artifact(job_id=1, filename=".."))
@example(Artifact(job_id=1, filename=""))
@example(Artifact(job_id=1, filename="a." + "b" * 300))
@example(Artifact(job_id=1, filename="😀" * 300 + ".png"))
def test_it_is_one_harmless_component(artifact: Artifact) -> None:
    name = artifact_filename(artifact)

    assert name.startswith(f"{artifact.job_id}-{artifact.position}-")
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert len(name.encode()) <= 255
    assert not set(name) & set('/\\<>:"|?*')
    assert all(unicodedata.category(c)[0] not in {"C", "Z"} or c == " " for c in name)
    assert not name.endswith((" ", "."))


@given(st.lists(_hostile, min_size=2, max_size=6))
def test_files_of_a_job_have_different_names(filenames: list[str]) -> None:
    artifacts = [
        Artifact(job_id=7, position=position, filename=filename, role=role, thumbnail_size=size)
        for position, filename in enumerate(filenames)
        for role, size in (
            (ArtifactRole.ARTIFACT_ROLE_OUTPUT, 0),
            (ArtifactRole.ARTIFACT_ROLE_THUMBNAIL, 150),
            (ArtifactRole.ARTIFACT_ROLE_THUMBNAIL, 600),
        )
    ]
    names = {artifact_filename(artifact) for artifact in artifacts}
    assert len(names) == len(artifacts)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("ComfyUI_00001_.png", "7-0-ComfyUI_00001_.png"),
        ("été 1.png", "7-0-été 1.png"),
        ("sub/folder/picture.png", "7-0-picture.png"),
        ("sub\\folder\\picture.png", "7-0-picture.png"),
        ("noending", "7-0-noending"),
        (".png", "7-0-png"),
        ("a\x1b[2Jb.png", "7-0-a_[2Jb.png"),
    ],
)
def test_ordinary_names_stay(filename: str, name: str) -> None:
    output = ArtifactRole.ARTIFACT_ROLE_OUTPUT
    assert artifact_filename(Artifact(job_id=7, filename=filename, role=output)) == name


def test_thumbnails_say_their_size_and_type() -> None:
    thumbnail = Artifact(
        job_id=7,
        position=2,
        filename="picture.png",
        content_type="image/webp",
        role=ArtifactRole.ARTIFACT_ROLE_THUMBNAIL,
        thumbnail_size=300,
    )
    assert artifact_filename(thumbnail) == "7-2-picture-300px.webp"
