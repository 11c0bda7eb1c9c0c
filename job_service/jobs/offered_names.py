"""What live workers offer by name, and what is close to a wrong one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from generation_jobs.v1 import job_pb2
from rapidfuzz import fuzz, process, utils

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.routing import Missing, Offer

#: Names suggested for a wrong one, and how alike (0 to 100) a name must be to be suggested.
_MOST_SUGGESTED: Final = 3
_ALIKE: Final = 60
#: Suggestions are left out beyond this many characters: a shortened name is of no use.
_LONGEST_HINT: Final = 200
#: What of one job is looked up among all names that are offered.
_MOST_HINTS: Final = 3


class Names:
    """Names of one kind, for example all checkpoints."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: Final = frozenset(names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __bool__(self) -> bool:
        return bool(self._names)

    def hint(self, name: str) -> str:
        """The names most like ``name`` as a question; empty: none is like it.

        Some 0.4 ms for 5,000 names.
        """
        found = process.extract(
            _folded(name),
            self._folded,
            scorer=fuzz.ratio,
            processor=None,
            limit=_MOST_SUGGESTED,
            score_cutoff=_ALIKE,
        )
        shown: list[str] = []
        for _, _, near in found:
            if sum(map(len, shown)) + len(near) <= _LONGEST_HINT:
                shown.append(near)
        return f"did you mean {' or '.join(map(repr, shown))}?" if shown else ""

    @cached_property
    def _folded(self) -> Mapping[str, str]:
        return {name: _folded(name) for name in sorted(self._names)}


def _folded(name: str) -> str:
    """What two names are compared by: neither folders, the file's type, case nor punctuation."""
    file = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, kind = file.rpartition(".")
    # "v1.5" has no type of file, and "model.safetensors" has.
    return str(utils.default_process(stem if dot and kind.isalpha() else file))


_NONE: Final = Names(())


@dataclass(frozen=True, slots=True)
class OfferedNames:
    """What the live ComfyUIs of one backend label offer.

    ``…_everywhere``: what each of them offers. A ComfyUI that has not said which samplers or
    schedulers it has is taken to have all.
    """

    checkpoints: Names = _NONE
    loras: Names = _NONE
    samplers: Names = _NONE
    schedulers: Names = _NONE
    samplers_everywhere: frozenset[str] = frozenset()
    schedulers_everywhere: frozenset[str] = frozenset()

    @classmethod
    def of(cls, offers: Iterable[Offer]) -> "OfferedNames":
        """What at least one of ``offers``, of which there must be one, has."""
        offers = list(offers)
        samplers = [frozenset(offer.samplers) for offer in offers if offer.samplers]
        schedulers = [frozenset(offer.schedulers) for offer in offers if offer.schedulers]
        return cls(
            Names(frozenset[str]().union(*(offer.checkpoints for offer in offers))),
            Names(frozenset[str]().union(*(offer.loras for offer in offers))),
            Names(frozenset[str]().union(*samplers)),
            Names(frozenset[str]().union(*schedulers)),
            frozenset.intersection(*samplers) if samplers else frozenset(),
            frozenset.intersection(*schedulers) if schedulers else frozenset(),
        )

    def rare_settings(self, job: job_pb2.GenerationJob) -> tuple[str, str]:
        """Sampler and scheduler of ``job`` as Needs names them: empty if every ComfyUI has them."""
        if not samples_by_itself(job):
            return "", ""
        sampler = job.sampler.sampler_name or limits.DEFAULT_SAMPLER
        scheduler = job.sampler.scheduler or limits.DEFAULT_SCHEDULER
        return (
            sampler if self.samplers and sampler not in self.samplers_everywhere else "",
            scheduler if self.schedulers and scheduler not in self.schedulers_everywhere else "",
        )

    def note_unknown(
        self, checks: FieldChecks, at: str, job: job_pb2.GenerationJob, *, hints: bool = True
    ) -> None:
        """Note every model of ``job``, and of what it is sampled with, that nobody offers.

        Sampler and scheduler count for the built-in graph only: other recipes bring their own.
        ``hints``: say what may have been meant.
        """
        given = [("checkpoint", f"{at}checkpoint_model", job.checkpoint_model, self.checkpoints)]
        given += [
            ("LoRA", f"{at}lora_models[{n}].name", lora.name, self.loras)
            for n, lora in enumerate(job.lora_models[: limits.MAX_LORAS])
        ]
        if samples_by_itself(job):
            sampler = job.sampler.sampler_name or limits.DEFAULT_SAMPLER
            scheduler = job.sampler.scheduler or limits.DEFAULT_SCHEDULER
            if self.samplers:
                given.append(("sampler", f"{at}sampler.sampler_name", sampler, self.samplers))
            if self.schedulers:
                given.append(("scheduler", f"{at}sampler.scheduler", scheduler, self.schedulers))
        for kind, path, name, names in given:
            if name and len(name) <= limits.MAX_NAME and name not in names:
                hint = names.hint(name) if hints else ""
                checks.wrong(
                    path, f"is a {kind} that no connected worker offers{hint and '; '}{hint}"
                )

    def in_words(self, missing: Iterable[Missing]) -> list[str]:
        """What is missing, with what may have been meant where nobody offers the name."""
        kinds = {
            "checkpoint": self.checkpoints,
            "LoRA": self.loras,
            "sampler": self.samplers,
            "scheduler": self.schedulers,
        }
        words = []
        hints = 0
        for one in missing:
            names = kinds.get(one.kind, _NONE)
            hint = ""
            if hints < _MOST_HINTS and one.name not in names:
                hint = names.hint(one.name)
                hints += 1
            words.append(f"{one} ({hint})" if hint else str(one))
        return words


def samples_by_itself(job: job_pb2.GenerationJob) -> bool:
    """Whether ``job`` runs the built-in graph, with the sampler settings of its own."""
    return job.WhichOneof("recipe") is None and job.job_type in (
        job_pb2.JOB_TYPE_UNSPECIFIED,
        job_pb2.JOB_TYPE_IMAGE,
    )


def by_backend_label(offers: Iterable[Offer]) -> dict[str, OfferedNames]:
    """What is offered under each backend label."""
    offers_of: dict[str, list[Offer]] = {}
    for offer in offers:
        for label in offer.backend_labels:
            offers_of.setdefault(label, []).append(offer)
    return {label: OfferedNames.of(of_label) for label, of_label in offers_of.items()}
