"""Where a job has a place for each former value, and which values fit there."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from generation_jobs.v1 import artifact_pb2, job_pb2
from google.protobuf import timestamp_pb2
from google.protobuf.message import Message

from tests.legacy_import import exact

Job = job_pb2.GenerationJob


@dataclass(frozen=True)
class Home(ABC):
    """The place of one field in a job."""

    name: str

    @abstractmethod
    def holds(self, job: Job, text: str) -> bool:
        """Whether the former value is there, just as it was."""

    @abstractmethod
    def must_hold(self, job: Job, text: str) -> bool:
        """Whether it fits, so that it must be there."""

    def is_empty(self, job: Job) -> bool:
        """Whether there is nothing: what a field without a former value must be."""
        value = getattr(job, self.name)
        return not _has(job, self.name) if self._has_presence(job) else not value

    def holds_part(self, job: Job, text: str) -> bool:
        """Whether it is there as far as there is room, all of it being kept elsewhere."""
        return False

    def _has_presence(self, job: Job) -> bool:
        return bool(job.DESCRIPTOR.fields_by_name[self.name].has_presence)


def _has(message: Message, name: str) -> bool:
    return message.HasField(name)


_SHORT: Final = ("checkpoint_model", "comfyui_prompt_id", "celery_task_id")


class TextHome(Home):
    """A text as it was."""

    def holds(self, job: Job, text: str) -> bool:
        return bool(getattr(job, self.name) == text)

    def must_hold(self, job: Job, text: str) -> bool:
        longest = 255 if self.name in _SHORT else 20_000
        blank = self.name == "prompt" and not text.strip(" \t\n\r\f\v")
        return len(text) <= longest and not blank

    def is_empty(self, job: Job) -> bool:
        # a job has a prompt; of one that had none, the importer must say so
        return self.name == "prompt" or super().is_empty(job)


@dataclass(frozen=True)
class NumberHome(Home):
    """A whole number in a range."""

    fits: Callable[[int], bool]

    def holds(self, job: Job, text: str) -> bool:
        return _has(job, self.name) and getattr(job, self.name) == int(text)

    def must_hold(self, job: Job, text: str) -> bool:
        return self.fits(int(text))


class TypeHome(Home):
    """A job's type, by either of its former names."""

    def holds(self, job: Job, text: str) -> bool:
        word = text.removesuffix("_generation")
        names = dict(job_pb2.JobType.items())
        return names.get(f"JOB_TYPE_{word.upper()}") == job.job_type and word.islower()

    def must_hold(self, job: Job, text: str) -> bool:
        return text.removesuffix("_generation") in ("text", "image", "video", "audio")

    def is_empty(self, job: Job) -> bool:
        return job.job_type == job_pb2.JOB_TYPE_IMAGE


class MomentHome(Home):
    """A time without zone, which meant UTC."""

    def holds(self, job: Job, text: str) -> bool:
        moment = _moment(text)
        return moment is not None and _has(job, self.name) and (getattr(job, self.name) == moment)

    def must_hold(self, job: Job, text: str) -> bool:
        if self.name == "completed_at" and job.status == job_pb2.JOB_STATUS_PENDING:
            return False
        if self.name == "started_at" and job.status == job_pb2.JOB_STATUS_PENDING:
            return False
        return _moment(text) is not None

    def is_empty(self, job: Job) -> bool:
        # jobs have been created at some time, and ended ones have ended at some
        return self.name != "started_at" or super().is_empty(job)


def _moment(text: str) -> timestamp_pb2.Timestamp | None:
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # infinite, or of a year that messages do not have
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    assert message.ToDatetime(UTC) - moment == timedelta()
    return message


class ErrorHome(Home):
    """A message without a code."""

    def holds(self, job: Job, text: str) -> bool:
        return _has(job, "error") and text in (job.error.message, job.error.technical_details)

    def must_hold(self, job: Job, text: str) -> bool:
        return job.status == job_pb2.JOB_STATUS_FAILED and 0 < len(text) <= 500

    def is_empty(self, job: Job) -> bool:
        return job.status == job_pb2.JOB_STATUS_FAILED or not _has(job, "error")

    def holds_part(self, job: Job, text: str) -> bool:
        return text.startswith(job.error.technical_details or job.error.message)


class ParamsHome(Home):
    """Free parameters. Two of them have places of their own: sampler settings, and what we keep."""

    def holds(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        if not isinstance(value, dict) or not exact.fits_jsonb(text):
            return False
        there = exact.read(job.params_json)
        kept = there.get("legacy", {})

        def holds(key: str, one: Any) -> bool:
            match key:
                case "legacy":
                    return bool(kept.get("params.legacy", {}).get("value") == one)
                case "sampler_params":
                    # null is none, whatever a request that is part of the job had
                    elsewhere = kept.get("sampler_params", {"value": None})["value"] == one
                    return one is None or elsewhere or sampler_holds(job, one)
            return key in there and bool(there[key] == one)

        return all(holds(key, one) for key, one in value.items())

    def must_hold(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        return (
            isinstance(value, dict)
            and exact.fits_jsonb(text)
            and not value.keys() & {"sampler_params", "legacy"}
        )

    def is_empty(self, job: Job) -> bool:
        return True  # said key by key


class SamplerHome(Home):
    """Settings of the sampler."""

    def holds(self, job: Job, text: str) -> bool:
        return exact.fits_jsonb(text) and sampler_holds(job, exact.read(text))

    def must_hold(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        return (
            isinstance(value, dict)
            and bool(value)
            and exact.fits_jsonb(text)
            and all(key in _SETTINGS and _SETTINGS[key](one) for key, one in value.items())
        )

    def is_empty(self, job: Job) -> bool:
        return True  # they may have been among the parameters


def _within(low: float, high: float, *, whole: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        is_number = isinstance(value, Decimal)
        return is_number and low <= value <= high and (not whole or value == int(value))

    return fits


def _short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 63


_SETTINGS: Final[dict[str, Callable[[Any], bool]]] = {
    "seed": _within(0, 2**63 - 1, whole=True),
    "steps": _within(1, 150, whole=True),
    "cfg": _within(0, 30),
    "sampler_name": _short,
    "scheduler": _short,
    "denoise": _within(0, 1),
}


def sampler_holds(job: Job, settings: Any) -> bool:
    """Whether each of these settings is there, just as it was."""
    return isinstance(settings, dict) and all(
        key in _SETTINGS and _setting_holds(job.sampler, key, value)
        for key, value in settings.items()
    )


def _setting_holds(sampler: job_pb2.Sampler, key: str, value: Any) -> bool:
    there = getattr(sampler, key)
    if isinstance(there, str):
        return bool(there == value)
    if not _has(sampler, key) or not isinstance(value, Decimal):
        return False
    return bool(there == (float(value) if isinstance(there, float) else value))


class LorasHome(Home):
    """LoRAs, by name and strength."""

    def holds(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        if not isinstance(value, list) or len(value) != len(job.lora_models):
            return False
        return exact.fits_jsonb(text) and all(
            self._fits(one) and self._is(there, one)
            for there, one in zip(job.lora_models, value, strict=True)
        )

    def must_hold(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        return (
            isinstance(value, list)
            and exact.fits_jsonb(text)
            and (all(self._fits(one) and "strength" not in one for one in value))
        )

    def holds_part(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        if not isinstance(value, list):
            return False
        # lists of bare names, and strengths by other names
        names = [one.get("name") if isinstance(one, dict) else one for one in value]
        return [lora.name for lora in job.lora_models] == names

    @staticmethod
    def _fits(one: Any) -> bool:
        keys = ({"name", "strength_model", "strength_clip"}, {"name", "strength"})
        return (
            isinstance(one, dict)
            and any(one.keys() <= known for known in keys)
            and (
                _within(-10, 10)(one.get("strength_model", Decimal(1)))
                and _within(-10, 10)(one.get("strength_clip", Decimal(1)))
                and _within(-10, 10)(one.get("strength", Decimal(1)))
                and isinstance(one.get("name"), str)
                and 0 < len(one["name"]) <= 255
            )
        )

    @staticmethod
    def _is(there: job_pb2.Lora, one: dict[str, Any]) -> bool:
        # what was not said has its default now
        model = one.get("strength_model", one.get("strength", Decimal("0.8")))
        clip = one.get("strength_clip", model)
        strengths = (float(model), float(clip))
        return (there.name, there.strength_model, there.strength_clip) == (one["name"], *strengths)


@dataclass(frozen=True)
class FilesHome(Home):
    """Paths of files, which are artifacts of one role now."""

    role: artifact_pb2.ArtifactRole.ValueType

    def holds(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        locations = [
            getattr(one, "external_location", one.filename)
            for one in job.artifacts
            if one.role == self.role
        ]
        return isinstance(value, list) and Counter(locations) == Counter(map(str, value))

    def must_hold(self, job: Job, text: str) -> bool:
        value = exact.read(text)
        return (
            job.status == job_pb2.JOB_STATUS_COMPLETED
            and isinstance(value, list)
            and exact.fits_jsonb(text)
            and all(isinstance(one, str) and one for one in value)
        )

    def is_empty(self, job: Job) -> bool:
        return all(one.role != self.role for one in job.artifacts)


def _is_size(value: int) -> bool:
    return 64 <= value <= 8192 and value % 8 == 0


HOMES: Final[dict[str, Home]] = {
    home.name: home
    for home in (
        TextHome("user_id"),
        TypeHome("job_type"),
        TextHome("prompt"),
        TextHome("negative_prompt"),
        TextHome("checkpoint_model"),
        TextHome("comfyui_prompt_id"),
        TextHome("celery_task_id"),
        LorasHome("lora_models"),
        NumberHome("width", _is_size),
        NumberHome("height", _is_size),
        NumberHome("batch_size", lambda value: 1 <= value <= 1024),
        NumberHome("content_id", lambda value: True),
        ParamsHome("params_json"),
        SamplerHome("sampler"),
        MomentHome("created_at"),
        MomentHome("updated_at"),
        MomentHome("started_at"),
        MomentHome("completed_at"),
        ErrorHome("error"),
        FilesHome("output_paths", artifact_pb2.ARTIFACT_ROLE_OUTPUT),
        FilesHome("thumbnail_paths", artifact_pb2.ARTIFACT_ROLE_THUMBNAIL),
    )
}
#: The former columns that are one field of a job.
OF_FIELD: Final[dict[str, tuple[str, ...]]] = {
    **{name: (name,) for name in HOMES},
    "params_json": ("params", "parameters"),
    "content_id": ("content_id", "result_content_id"),
    "sampler": ("sampler_params",),
    "error": ("error_message",),
}
