"""What a running node may ask of the simulator."""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from comfy_worker.simulator.settings import SimulatorSettings
from comfy_worker.simulator.storage import Storage

P = ParamSpec("P")
T = TypeVar("T")


class NodeError(Exception):
    """A node fails: ends the run in `execution_error` with this exception type."""

    def __init__(self, message: str, exception_type: str = "Exception") -> None:
        super().__init__(message)
        self.exception_type = exception_type


class PromptInterrupted(Exception):  # noqa: N818 - it is no error
    """The run was stopped by `POST /interrupt`, or a node stops it itself."""


class NodeContext(Protocol):
    """The run a node is part of."""

    @property
    def settings(self) -> SimulatorSettings:
        """The simulator's settings."""
        ...

    @property
    def storage(self) -> Storage:
        """The simulator's directories."""
        ...

    @property
    def node_id(self) -> str:
        """The node's id in the graph."""
        ...

    @property
    def graph(self) -> dict[str, Any]:
        """The whole graph, as it goes into the metadata of pictures."""
        ...

    @property
    def extra_pnginfo(self) -> dict[str, Any]:
        """What the client wants written into pictures besides the graph."""
        ...

    @property
    def previews(self) -> bool:
        """Whether preview frames of the sampling are wanted."""
        ...

    async def wait(self, seconds: float) -> None:
        """Let simulated work take its time."""
        ...

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that needs the processor without holding up the event loop."""
        ...

    async def step(
        self, value: int, maximum: int, frame: Callable[[], bytes] | None = None
    ) -> None:
        """Come to the end of a step: report it, or stop if the run was interrupted.

        Args:
            value: The step's number, from 1.
            maximum: How many steps there are.
            frame: Draws the step's preview, a JPEG; None sends none.

        Raises:
            PromptInterrupted: The run was interrupted during the step (recording 07b).

        """
        ...

    async def work_regardless(self) -> None:
        """Come to the end of work that no interrupt shortens (recording 07d)."""
        ...

    def send_text(self, text: str) -> None:
        """Send a text to the prompt's client (event 3, recording 12)."""
        ...

    def send_image(self, png: bytes) -> None:
        """Send a finished picture to the prompt's client.

        As event 1 PNG (recording 15), and as event 4 to who wants metadata.
        """
        ...
