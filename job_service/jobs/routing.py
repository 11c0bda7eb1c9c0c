"""Which worker can run which job."""

import hashlib
import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of a worker. Jobs with equal needs share a route key.

    ``sampler`` and ``scheduler`` are named only where not every ComfyUI offers them, so that those
    everybody has do not multiply the keys. ``job_type`` is empty for a job that brings a graph:
    whatever has its node classes makes it.
    """

    job_type: str
    backend_label: str
    checkpoint: str
    loras: tuple[str, ...] = ()
    node_classes: tuple[str, ...] = ()
    sampler: str = ""
    scheduler: str = ""

    def to_json(self) -> str:
        """Canonical text: equal needs give equal text."""
        rare = {"sampler": self.sampler, "scheduler": self.scheduler}
        return json.dumps(
            {
                "backend_label": self.backend_label,
                "checkpoint": self.checkpoint,
                "job_type": self.job_type,
                "loras": sorted(set(self.loras)),
                "node_classes": sorted(set(self.node_classes)),
                **{name: value for name, value in rare.items() if value},
            },
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical text."""
        return hashlib.sha256(self.to_json().encode()).digest()

    @classmethod
    def from_json(cls, needs: dict[str, object]) -> "Needs":
        """The needs that ``to_json`` wrote."""
        loras, node_classes = needs["loras"], needs["node_classes"]
        assert isinstance(loras, list)
        assert isinstance(node_classes, list)
        return cls(
            job_type=str(needs["job_type"]),
            backend_label=str(needs["backend_label"]),
            checkpoint=str(needs["checkpoint"]),
            loras=tuple(map(str, loras)),
            node_classes=tuple(map(str, node_classes)),
            sampler=str(needs.get("sampler", "")),
            scheduler=str(needs.get("scheduler", "")),
        )


class Missing(NamedTuple):
    """Something that a job needs and a ComfyUI does not offer, for example a checkpoint."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What one ComfyUI of a worker can run.

    No ``samplers`` or ``schedulers``: it has not said which, and is taken to have all.
    """

    job_types: AbstractSet[str]
    backend_labels: AbstractSet[str]
    checkpoints: AbstractSet[str]
    loras: AbstractSet[str]
    node_classes: AbstractSet[str]
    samplers: AbstractSet[str] = frozenset()
    schedulers: AbstractSet[str] = frozenset()

    def missing(self, needs: Needs) -> list[Missing]:
        """What of ``needs`` is not offered; empty: the job can run here."""
        lacks: list[Missing] = []
        if needs.job_type and needs.job_type not in self.job_types:
            lacks.append(Missing("job type", needs.job_type))
        if needs.backend_label not in self.backend_labels:
            lacks.append(Missing("backend", needs.backend_label))
        if needs.checkpoint and needs.checkpoint not in self.checkpoints:
            lacks.append(Missing("checkpoint", needs.checkpoint))
        lacks += [Missing("LoRA", name) for name in needs.loras if name not in self.loras]
        lacks += [
            Missing("node class", name)
            for name in needs.node_classes
            if name not in self.node_classes
        ]
        if needs.sampler and self.samplers and needs.sampler not in self.samplers:
            lacks.append(Missing("sampler", needs.sampler))
        if needs.scheduler and self.schedulers and needs.scheduler not in self.schedulers:
            lacks.append(Missing("scheduler", needs.scheduler))
        return lacks

    def serves(self, needs: Needs) -> bool:
        """Whether the job can run here."""
        return not self.missing(needs)
