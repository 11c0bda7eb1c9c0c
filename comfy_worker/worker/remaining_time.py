"""When a run will be done: by how long its like took, and by the pace of its own steps. Pure."""

from typing import Final

from comfy_worker.comfyui import Progress

_LEAST_PACE: Final = 0.02
"""Of the whole: what the steps must have moved before their pace says anything."""


class RemainingTime:
    """Of one run. All times are seconds on one clock; ``expected`` None: its like is unknown.

    At first what others took decides, towards the end more and more the pace of its own steps.
    """

    def __init__(self, expected: float | None) -> None:
        self._expected = expected
        self._started: float | None = None
        self._fraction = 0.0
        self._first_step: tuple[float, float] | None = None
        self._last_step: tuple[float, float] | None = None

    def start(self, now: float) -> None:
        """Note that ComfyUI begins, or begins again."""
        self._started = now
        self._fraction = 0.0
        self._first_step = self._last_step = None

    def observe(self, now: float, progress: Progress) -> None:
        """Note how far the run is."""
        moved = progress.fraction > self._fraction
        self._fraction = progress.fraction
        if progress.step and moved:
            self._last_step = now, progress.fraction
            self._first_step = self._first_step or self._last_step

    def at(self, now: float) -> float | None:
        """Seconds until the run is done, None when nobody can tell."""
        if self._started is None:
            return None
        by_others = self._by_others(now)
        by_pace = self._by_pace(now)
        if by_others is None or by_pace is None:
            return by_pace if by_others is None else by_others
        return (1 - self._fraction) * by_others + self._fraction * by_pace

    def _by_others(self, now: float) -> float | None:
        """None also when it takes longer than the others did: then they tell nothing."""
        if self._expected is None or self._started is None:
            return None
        left = self._started + self._expected - now
        return left if left > 0 else None

    def _by_pace(self, now: float) -> float | None:
        if self._first_step is None or self._last_step is None:
            return None
        (begun, from_fraction), (since, to_fraction) = self._first_step, self._last_step
        if to_fraction - from_fraction < _LEAST_PACE:
            return None
        left = (1 - to_fraction) * (since - begun) / (to_fraction - from_fraction)
        return max(left - (now - since), 0.0)
