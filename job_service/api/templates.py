"""The template calls of GenerationJobService."""

import asyncio
from typing import Any, Final
from uuid import UUID

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import workflow_template_pb2

from job_service.api import opaque_token
from job_service.api.caller import principal
from job_service.api.recipe_lookup import RecipeLookup
from job_service.api.template_messages import built_in_message, draft_of, etag, stored_message
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.recipe_book import TemplateKey
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.templates import TemplateDraft, TemplateRow, TemplateStore
from job_service.workflows.builtin_templates import built_in, builtin_templates
from job_service.workflows.template_checks import TEMPLATE_NAME, TEMPLATE_NAME_RULE

Context = grpc.aio.ServicerContext[Any, Any]

#: How often an update without an etag starts over because somebody else stored a version.
_UPDATE_TRIES: Final = 5


class TemplateCalls:
    """Stores and hands out workflow templates.

    A user's templates are theirs alone; those of an admin are everybody's, as the built-in ones
    are. The servicer sets ``_templates`` and ``_recipes``.
    """

    _templates: TemplateStore
    _recipes: RecipeLookup

    async def CreateTemplate(
        self, request: pb.CreateTemplateRequest, context: Context
    ) -> pb.CreateTemplateResponse:
        owner = _owner()
        draft = await self._draft(request.template)
        row = await self._templates.add(owner, draft)
        return pb.CreateTemplateResponse(template=stored_message(row))

    async def GetTemplate(
        self, request: pb.GetTemplateRequest, context: Context
    ) -> pb.GetTemplateResponse:
        owner = _owner()
        checks = FieldChecks()
        _name(checks, request.name)
        checks.integer("version", request.version, low=0, high=2**31 - 1)
        checks.raise_if_wrong()
        (row,) = await self._templates.find([TemplateKey(owner, request.name, request.version)])
        if row is not None:
            return pb.GetTemplateResponse(template=stored_message(row))
        template = built_in(request.name, request.version)
        if template is not None:
            return pb.GetTemplateResponse(template=built_in_message(template))
        raise _not_found(request.name, request.version)

    async def ListTemplates(
        self, request: pb.ListTemplatesRequest, context: Context
    ) -> pb.ListTemplatesResponse:
        owner = _owner()
        checks = FieldChecks()
        page_size = checks.integer("page_size", request.page_size, low=0, high=limits.MAX_PAGE)
        after = _after(checks, request.page_token)
        checks.raise_if_wrong()
        size = page_size or limits.DEFAULT_PAGE
        messages = {
            name: built_in_message(template, with_workflow=False)
            for name, template in builtin_templates().items()
            if name > after
        }
        # A stored one hides the built-in one of its name.
        for row in await self._templates.newest(owner, after=after, limit=size + 1):
            messages[row.name] = stored_message(row, with_workflow=False)
        names = sorted(messages)
        response = pb.ListTemplatesResponse()
        reply_bytes = 0
        for name in names[:size]:
            reply_bytes += messages[name].ByteSize() + 8
            if reply_bytes > limits.MAX_REPLY_BYTES and response.templates:
                break
            response.templates.append(messages[name])
        if len(names) > len(response.templates):
            response.next_page_token = opaque_token.encoded(response.templates[-1].name.encode())
        return response

    async def UpdateTemplate(
        self, request: pb.UpdateTemplateRequest, context: Context
    ) -> pb.UpdateTemplateResponse:
        owner = _owner()
        draft = await self._draft(request.template)
        for _ in range(_UPDATE_TRIES):
            newest = await self._changeable(owner, draft.name)
            if request.template.etag not in ("", etag(newest.name, newest.version)):
                raise RefusedError(
                    Refusal.ETAG_MISMATCH,
                    f"template {draft.name!r} has changed since it was read; read it again",
                    metadata={"etag": etag(newest.name, newest.version)},
                )
            row = await self._templates.revise(owner, draft, newest.version)
            if row is not None:
                return pb.UpdateTemplateResponse(template=stored_message(row))
        raise RefusedError(
            Refusal.ETAG_MISMATCH, f"template {draft.name!r} keeps changing; read it again"
        )

    async def DeleteTemplate(
        self, request: pb.DeleteTemplateRequest, context: Context
    ) -> pb.DeleteTemplateResponse:
        owner = _owner()
        checks = FieldChecks()
        _name(checks, request.name)
        checks.raise_if_wrong()
        await self._changeable(owner, request.name)
        if not await self._templates.delete(owner, request.name):
            raise _not_found(request.name)
        return pb.DeleteTemplateResponse()

    async def _draft(self, template: workflow_template_pb2.WorkflowTemplate) -> TemplateDraft:
        """The template as it will be stored. Raises RefusedError: INVALID_FIELDS."""
        checks = FieldChecks()
        draft = await asyncio.to_thread(draft_of, checks, template, self._recipes.rules)
        checks.raise_if_wrong()
        return draft

    async def _changeable(self, owner: UUID | None, name: str) -> TemplateRow:
        """The newest version of a template that this owner may change.

        Raises RefusedError: TEMPLATE_NOT_FOUND, TEMPLATE_BUILT_IN, ROLE_NOT_ALLOWED.
        """
        (row,) = await self._templates.find([TemplateKey(owner, name)])
        if row is None and name in builtin_templates():
            raise RefusedError(
                Refusal.TEMPLATE_BUILT_IN,
                f"template {name!r} is built in; store a changed copy with CreateTemplate, under"
                " this name or another",
            )
        if row is None:
            raise _not_found(name)
        if row.owner != owner:
            raise RefusedError(
                Refusal.ROLE_NOT_ALLOWED,
                f"template {name!r} is everybody's; only an admin may change it",
            )
        return row


def _owner() -> UUID | None:
    """Whose templates the caller stores: its user's, or everybody's."""
    return principal().visible_user


def _name(checks: FieldChecks, name: str) -> None:
    if not TEMPLATE_NAME.fullmatch(name):
        checks.wrong("name", TEMPLATE_NAME_RULE)


def _not_found(name: str, version: int = 0) -> RefusedError:
    which = f"version {version} of template" if version else "template"
    return RefusedError(Refusal.TEMPLATE_NOT_FOUND, f"there is no {which} {name!r}")


def _after(checks: FieldChecks, token: str) -> str:
    if not token:
        return ""
    try:
        name = opaque_token.decoded(token).decode("ascii")
    except ValueError:
        name = ""
    if not TEMPLATE_NAME.fullmatch(name):
        checks.wrong("page_token", "is not a token of this service")
    return name
