"""What a Prometheus sees of a service, and what an orchestrator asks it."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scraped:
    """Every sample of one scrape, by name and labels; and the type of each family by its name."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    families: Mapping[str, str]

    def __call__(self, name: str, **labels: str) -> float | None:
        """The sample with just these labels, if there is one."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples of a name that have these labels, whatever others they have."""
        wanted = set(labels.items())
        return sum(
            value for (one, has), value in self.samples.items() if one == name and wanted <= has
        )

    def labels(self, name: str, label: str) -> set[str]:
        """Every value that a label has."""
        return {dict(has)[label] for one, has in self.samples if one == name}


async def scrape(address: str) -> Scraped:
    """Read /metrics."""
    status, text = await get(address, "/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(text))
    return Scraped(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        },
        {family.name: family.type for family in families},
    )


async def get(address: str, path: str) -> tuple[int, str]:
    """Status and text of an answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}", timeout=aiohttp.ClientTimeout(20)) as answer,
    ):
        return answer.status, await answer.text()
