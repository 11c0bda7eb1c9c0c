"""A ComfyUI-compatible server for people without a GPU, and for tests.

It answers HTTP and WebSocket clients as ComfyUI 0.8.0 does; its pictures are drawn from prompt
and seed instead of sampled.
"""

from comfy_worker.simulator.faults import Faults, Hold
from comfy_worker.simulator.server import Simulator
from comfy_worker.simulator.settings import SimulatorSettings
from comfy_worker.simulator.signals import Signals

__all__ = ["Faults", "Hold", "Signals", "Simulator", "SimulatorSettings"]
