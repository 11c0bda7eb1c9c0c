"""Runs what is measured and what it is compared with in turn, so that noise hits both."""

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import TypeVar

Measured = TypeVar("Measured")


async def in_turn(
    rounds: int, *measures: Callable[[], Awaitable[Measured]]
) -> list[list[Measured]]:
    """Run every measure once a round, A B A B; the results of each, by round."""
    results: list[list[Measured]] = [[] for _ in measures]
    for _ in range(rounds):
        for taken, measure in zip(results, measures, strict=True):
            taken.append(await measure())
    return results


def ratio(measured: Sequence[float], baseline: Sequence[float]) -> float:
    """The median over the rounds of how the two compare within one round."""
    return median(one / other for one, other in zip(measured, baseline, strict=True))


def spread(values: Sequence[float], unit: str) -> str:
    """The median, with the lowest and the highest."""
    digits = 0 if median(values) >= 100 else 2
    low, middle, high = (f"{one:,.{digits}f}" for one in (min(values), median(values), max(values)))
    return f"{middle} {unit} ({low} to {high})"
