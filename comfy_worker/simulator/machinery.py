"""What all parts of one simulator share."""

from collections.abc import Mapping
from dataclasses import dataclass

from comfy_worker.simulator.faults import Faults
from comfy_worker.simulator.interruption import Interruption
from comfy_worker.simulator.nodes.declaration import NodeClass, Options
from comfy_worker.simulator.result_cache import ResultCache
from comfy_worker.simulator.settings import SimulatorSettings
from comfy_worker.simulator.signals import Signals
from comfy_worker.simulator.storage import Storage
from comfy_worker.simulator.websocket import Sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """The parts that runs and routes work with."""

    settings: SimulatorSettings
    faults: Faults
    signals: Signals
    storage: Storage
    sockets: Sockets
    classes: Mapping[str, NodeClass]
    cache: ResultCache
    interruption: Interruption

    def options(self) -> Options:
        """Return the option lists as they are now: the input directory changes."""
        return Options(
            checkpoints=self.settings.checkpoints,
            loras=self.settings.loras,
            vaes=self.settings.vaes,
            controlnets=self.settings.controlnets,
            diffusion_models=self.settings.diffusion_models,
            text_encoders=self.settings.text_encoders,
            upscale_models=self.settings.upscale_models,
            input_files=self.storage.input_files(),
        )
