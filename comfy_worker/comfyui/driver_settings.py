"""How patient the driver is."""

from dataclasses import dataclass, field

from comfy_worker.comfyui.client import Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """Durations in seconds.

    - ``silence``: without events for so long, the queue and the history are read.
    - ``poll``: the same for prompts whose events go to another client id.
    - ``preview_interval``: the least time between two previews of a prompt.
    - ``socket_patience``: a prompt is sent without a socket after so long.
    - ``submit_grace``: a ComfyUI that does not take a prompt for so long does not get it.
    - ``unreachable_grace``: a ComfyUI that gives no answer for so long loses its prompts.
    - ``cancel_patience``: how long a cancel waits for the prompt to stop.

    ``most_sent_bytes`` bounds what is kept of the pictures a prompt sends over the WebSocket.
    """

    silence: float = 5.0
    poll: float = 1.0
    preview_interval: float = 0.5
    socket_patience: float = 5.0
    submit_grace: float = 20.0
    unreachable_grace: float = 60.0
    cancel_patience: float = 30.0
    most_sent_bytes: int = 1024**3
    timeouts: Timeouts = field(default_factory=Timeouts)
