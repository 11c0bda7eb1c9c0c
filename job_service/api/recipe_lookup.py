"""Looks up what the recipes of requests refer to, before they are checked."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from generation_jobs.v1 import job_pb2
from generation_jobs.v1.worker_service_pb2 import BackendCatalogue

from job_service.api.template_messages import template_of
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.principal import Principal
from job_service.jobs.recipe_book import RecipeBook, TemplateKey, WorkflowRules
from job_service.jobs.validation import owner
from job_service.queue.fleet import Fleet
from job_service.store.inputs import InputTable
from job_service.store.templates import TemplateStore
from job_service.workflows.builtin_templates import built_in
from job_service.workflows.needs import ROUTED_INPUTS
from job_service.workflows.signatures import NodeSignatures
from job_service.workflows.template import Template

T = TypeVar("T")

#: Backend labels whose signatures are kept joined.
_LABELS_KEPT: Final = 16
#: Characters of graphs that are checked in a millisecond or two: a thread would hold the
#: interpreter for as long, and cost the way there and back.
_SMALL_GRAPHS: Final = 2048


class RecipeLookup:
    """Templates, inputs and node classes that requests name; nothing for those that name none.

    ``models_wait``: a graph with a checkpoint or LoRA that no live worker offers is taken, and
    waits for one that does.
    """

    def __init__(
        self,
        rules: WorkflowRules,
        templates: TemplateStore,
        inputs: InputTable,
        fleet: Fleet,
        *,
        models_wait: bool,
    ) -> None:
        self.rules = rules
        self._awaited = ROUTED_INPUTS if models_wait else frozenset[tuple[str, str]]()
        self._templates = templates
        self._inputs = inputs
        self._fleet = fleet
        self._without_recipes = RecipeBook(rules)
        self._joined: dict[str, tuple[list[BackendCatalogue], NodeSignatures]] = {}

    async def check(
        self,
        jobs: Sequence[job_pb2.GenerationJob],
        caller: Principal,
        checked: Callable[[RecipeBook], T],
    ) -> T:
        """What ``checked`` makes of the jobs, given what they refer to.

        A large graph takes a while to check: all but small ones are checked beside the event loop.
        """
        with_recipe = [job for job in jobs if job.WhichOneof("recipe")]
        if not with_recipe:
            return checked(await self._names())
        book = await self._book(with_recipe, caller)
        if _are_small(with_recipe):
            return checked(book)
        return await asyncio.to_thread(checked, book)

    async def _names(self) -> RecipeBook:
        """The names that workers offer, which is all that jobs without a recipe refer to."""
        offered = await self._fleet.offered_names()
        if offered is not self._without_recipes.offered:
            self._without_recipes = RecipeBook(self.rules, offered=offered)
        return self._without_recipes

    async def _book(self, jobs: Sequence[job_pb2.GenerationJob], caller: Principal) -> RecipeBook:
        owners = [owner(FieldChecks(), "", job.user_id, caller) for job in jobs]
        keys = {
            TemplateKey(user, job.template.name, job.template.version)
            for user, job in zip(owners, jobs, strict=True)
            if job.WhichOneof("recipe") == "template" and _may_exist(job.template)
        }
        wanted = {
            (user, binding.input_id)
            for user, job in zip(owners, jobs, strict=True)
            for binding in job.inputs
            if 0 < binding.input_id < 2**63
        }
        templates, inputs, signatures = await asyncio.gather(
            self._find(sorted(keys, key=str)),
            self._inputs.resolve(wanted),
            self._signatures({job.backend or limits.DEFAULT_BACKEND for job in jobs}),
        )
        return RecipeBook(
            self.rules, templates, inputs.keys(), signatures, (await self._names()).offered
        )

    async def _find(self, keys: Sequence[TemplateKey]) -> dict[TemplateKey, Template]:
        if not keys:
            return {}
        found: dict[TemplateKey, Template] = {}
        for key, row in zip(keys, await self._templates.find(keys), strict=True):
            template = built_in(key.name, key.version) if row is None else template_of(row)
            if template is not None:
                found[key] = template
        return found

    async def _signatures(self, labels: set[str]) -> dict[str, NodeSignatures]:
        found: dict[str, NodeSignatures] = {}
        for label in sorted(labels)[:_LABELS_KEPT]:
            catalogues = await self._fleet.signatures_for(label)
            if catalogues is None:
                continue
            known = self._joined.get(label)
            if known is None or not _same(known[0], catalogues):
                known = (
                    catalogues,
                    await asyncio.to_thread(
                        NodeSignatures.from_catalogues, catalogues, self._awaited
                    ),
                )
                if len(self._joined) >= _LABELS_KEPT:
                    self._joined.clear()
                self._joined[label] = known
            found[label] = known[1]
        return found


def _are_small(jobs: Sequence[job_pb2.GenerationJob]) -> bool:
    return all(job.WhichOneof("recipe") == "workflow_json" for job in jobs) and (
        sum(len(job.workflow_json) for job in jobs) <= _SMALL_GRAPHS
    )


def _may_exist(named: job_pb2.TemplateRef) -> bool:
    """Whether a template can have this name: what cannot be stored need not be looked for."""
    return 0 < len(named.name) <= limits.MAX_WORD and "\0" not in named.name and named.version >= 0


def _same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
