"""What can go wrong with a ComfyUI, each trap switchable while the simulator runs."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

PROMPT_IDS_SINCE: Final = (0, 3, 45)
TARGETED_INTERRUPTS_SINCE: Final = (0, 3, 57)


@dataclass(slots=True)
class Hold:
    """A run parked right before it reports a step, as if that step took arbitrarily long."""

    prompt_id: str | None
    step: int
    held_prompt_id: str | None = None
    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, prompt_id: str, step: int) -> bool:
        """Tell whether a run that is about to report this step has to wait here."""
        return (
            self.step == step
            and self.prompt_id in {None, prompt_id}
            and not self._reached.is_set()
            and not self._released.is_set()
        )

    async def reached(self) -> str:
        """Wait until a run is parked here; return its prompt id."""
        await self._reached.wait()
        return self.held_prompt_id or ""

    def release(self) -> None:
        """Let the run go on."""
        self._released.set()

    async def park(self, prompt_id: str) -> None:
        """Stay here until the release (the executor calls this)."""
        self.held_prompt_id = prompt_id
        self._reached.set()
        await self._released.wait()


@dataclass(frozen=True, slots=True)
class NodeFault:
    """An error some node class raises: at its start (step 0) or before reporting a step."""

    class_type: str
    exception_type: str
    message: str
    step: int = 0
    prompt_id: str | None = None


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class Faults:
    """The traps of a simulator; all off at first.

    Attributes:
        history_delay_seconds: Replaces the setting of the same name when not None.
        ignore_interrupts: `POST /interrupt` answers 200 and does nothing.
        version: What `/system_stats` says; None is the truth.
        cancels_jobs: `POST /api/jobs/{id}/cancel` is there, as in versions after 0.8.0.
        untargeted_interrupts: The prompt id of `POST /interrupt` is ignored: whatever runs is
            stopped.
        ignores_prompt_ids: The prompt id of `POST /prompt` is ignored: the server draws its own.
        lost_post_answers: So many accepted `POST /prompt` lose their answer: the prompt is
            queued, then the connection is reset.
        misleading_500s: So many accepted `POST /prompt` are answered with 500 (recording 04).
        failing_requests: So many HTTP requests are answered with 500 and have no effect.
        files_are_gone: `/view` answers 404, as for files somebody has deleted.
        nan_in_ui: What nodes show has a NaN in it, which is no JSON (recording 19).
        giant_frame_bytes: Previews and `executed` messages carry so many bytes more.
        progress_copies: How often each progress message is sent.
        silent_sockets: WebSockets stay open and deliver nothing.

    """

    history_delay_seconds: float | None = None
    ignore_interrupts: bool = False
    version: str | None = None
    cancels_jobs: bool = False
    untargeted_interrupts: bool = False
    ignores_prompt_ids: bool = False
    lost_post_answers: int = 0
    misleading_500s: int = 0
    failing_requests: int = 0
    files_are_gone: bool = False
    nan_in_ui: bool = False
    giant_frame_bytes: int = 0
    progress_copies: int = 1
    silent_sockets: bool = False
    _thawed: asyncio.Event = field(default_factory=_set_event)
    _sockets_flow: asyncio.Event = field(default_factory=_set_event)
    _holds: list[Hold] = field(default_factory=list)
    _node_faults: list[tuple[NodeFault, int]] = field(default_factory=list)

    def become(self, version: str) -> None:
        """Say to be a version such as 0.3.40, and lack what that had not yet."""
        numbers = tuple(int(number) for number in version.split("."))
        self.version = version
        self.ignores_prompt_ids = numbers < PROMPT_IDS_SINCE
        self.untargeted_interrupts = numbers < TARGETED_INTERRUPTS_SINCE

    def freeze(self) -> None:
        """Take connections and answer nothing, as a process that was stopped."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._thawed.set()

    async def until_thawed(self) -> None:
        """Wait while the server is frozen (its parts call this)."""
        await self._thawed.wait()

    def stall_sockets(self) -> None:
        """Hold back every WebSocket message, as one client that does not read does to all."""
        self._sockets_flow.clear()

    def unstall_sockets(self) -> None:
        """Deliver what was held back, and all that comes."""
        self._sockets_flow.set()

    async def until_sockets_flow(self) -> None:
        """Wait while WebSocket messages are held back (the delivery calls this)."""
        await self._sockets_flow.wait()
        await self._thawed.wait()

    def hold(self, prompt_id: str | None = None, *, step: int = 1) -> Hold:
        """Park the next run of this prompt (None: of any) before it reports `step` (from 1)."""
        hold = Hold(prompt_id, step)
        self._holds.append(hold)
        return hold

    def release_all(self) -> None:
        """Let everything that is held back go on and forget all holds."""
        for hold in self._holds:
            hold.release()
        self._holds.clear()
        self.thaw()
        self.unstall_sockets()

    def fail_node(
        self,
        class_type: str,
        *,
        exception_type: str = "RuntimeError",
        message: str = "simulated failure",
        step: int = 0,
        prompt_id: str | None = None,
        times: int = 1,
    ) -> None:
        """Make the next `times` runs of a node class end in `execution_error`.

        An `exception_type` of `torch.OutOfMemoryError` is reported as ComfyUI reports running
        out of GPU memory (recording 06).
        """
        fault = NodeFault(class_type, exception_type, message, step, prompt_id)
        self._node_faults.append((fault, times))

    def take_hold(self, prompt_id: str, step: int) -> Hold | None:
        """Return the hold that stops this run here, if any; it is used up."""
        found = next((hold for hold in self._holds if hold.matches(prompt_id, step)), None)
        if found is not None:
            self._holds.remove(found)
        return found

    def take_node_fault(self, prompt_id: str, class_type: str, step: int) -> NodeFault | None:
        """Return the failure planned for this point of a run, if any, and count it down."""
        for index, (fault, times) in enumerate(self._node_faults):
            if (fault.class_type, fault.step) != (class_type, step):
                continue
            if fault.prompt_id not in {None, prompt_id}:
                continue
            if times > 1:
                self._node_faults[index] = (fault, times - 1)
            else:
                del self._node_faults[index]
            return fault
        return None

    def pending_node_faults(self) -> Iterator[NodeFault]:
        """Yield the planned failures that have not happened yet."""
        return (fault for fault, _ in self._node_faults)
