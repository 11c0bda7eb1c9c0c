"""Which worker can run which job."""

import hashlib
import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of a worker. Jobs with equal needs share a route key."""

    job_type: str
    backend_label: str
    checkpoint: str
    loras: tuple[str, ...] = ()
    node_classes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical text: equal needs give equal text."""
        return json.dumps(
            {
                "backend_label": self.backend_label,
                "checkpoint": self.checkpoint,
                "job_type": self.job_type,
                "loras": sorted(set(self.loras)),
                "node_classes": sorted(set(self.node_classes)),
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
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """What one ComfyUI of a worker can run."""

    job_types: AbstractSet[str]
    backend_labels: AbstractSet[str]
    checkpoints: AbstractSet[str]
    loras: AbstractSet[str]
    node_classes: AbstractSet[str]

    def missing(self, needs: Needs) -> list[str]:
        """What of ``needs`` is not offered, in words; empty: the job can run here."""
        lacks: list[str] = []
        if needs.job_type not in self.job_types:
            lacks.append(f"job type {needs.job_type}")
        if needs.backend_label not in self.backend_labels:
            lacks.append(f"backend {needs.backend_label}")
        if needs.checkpoint and needs.checkpoint not in self.checkpoints:
            lacks.append(f"checkpoint {needs.checkpoint}")
        lacks += [f"LoRA {name}" for name in needs.loras if name not in self.loras]
        lacks += [
            f"node class {name}" for name in needs.node_classes if name not in self.node_classes
        ]
        return lacks

    def serves(self, needs: Needs) -> bool:
        """Whether the job can run here."""
        return not self.missing(needs)
