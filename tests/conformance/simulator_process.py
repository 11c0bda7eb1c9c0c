"""Starts and stops the simulator as a process of its own, as ``GenuineServer`` does ComfyUI."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from comfy_worker.simulator.settings import DEFAULT_CHECKPOINTS, DEFAULT_LORAS

_COMMAND = Path(sys.executable).parent / "comfy-simulator"
_GREETING = "comfy-simulator listening on "


class SimulatorProcess:
    """One ``comfy-simulator`` on a free port of 127.0.0.1; its output files lie in ``directory``.

    A context manager. URL and directory stay the same over ``kill`` and ``restart``.
    """

    checkpoint = DEFAULT_CHECKPOINTS[0]
    lora = DEFAULT_LORAS[0]

    def __init__(
        self, directory: Path, *, step_seconds: float = 0.02, probe_nodes: bool = False
    ) -> None:
        self._directory = directory
        self._step_seconds = step_seconds
        self._probe_nodes = probe_nodes
        self._process: subprocess.Popen[str] | None = None
        self._listen = "127.0.0.1:0"

    @property
    def url(self) -> str:
        """The base URL; known once it was started."""
        return f"http://{self._listen}"

    def start(self) -> None:
        """Start it and return when it listens."""
        self._process = subprocess.Popen(
            [
                str(_COMMAND),
                *("--listen", self._listen),
                *("--step-seconds", str(self._step_seconds)),
                *("--load-seconds", "0"),
                *(["--probe-nodes"] if self._probe_nodes else []),
                *("--output-directory", str(self._directory)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        greeting = self._process.stdout.readline().strip()
        assert greeting.startswith(_GREETING), greeting
        self._listen = greeting.removeprefix(f"{_GREETING}http://")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from running: the kernel still takes connections, nobody answers them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """End it if it runs, and start it with the same port and directory."""
        self._end(signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.communicate(timeout=30)
