"""Workflow templates as messages, as rows and as what is bound."""

from generation_jobs.v1 import workflow_template_pb2 as pb
from google.protobuf import json_format

from job_service.api.encode import timestamp
from job_service.jobs.fields import FieldChecks
from job_service.jobs.recipe_book import WorkflowRules
from job_service.store.templates import TemplateDraft, TemplateRow
from job_service.workflows.graph import dump, parse
from job_service.workflows.parameters import Parameter, parameters_from_proto
from job_service.workflows.problems import InvalidWorkflowError
from job_service.workflows.template import Template
from job_service.workflows.template_checks import description_problems, template_problems


def etag(name: str, version: int) -> str:
    """The etag of a template at a version."""
    return f'"{name}-{version}"'


def stored_message(row: TemplateRow, *, with_workflow: bool = True) -> pb.WorkflowTemplate:
    """A stored template as clients see it."""
    message = pb.WorkflowTemplate(
        name=row.name,
        version=row.version,
        description=row.description,
        workflow_json=row.workflow if with_workflow else "",
        created_at=timestamp(row.created_at),
        etag=etag(row.name, row.version),
    )
    for parameter in row.parameters:
        json_format.ParseDict(parameter, message.parameters.add(), ignore_unknown_fields=True)
    return message


def built_in_message(template: Template, *, with_workflow: bool = True) -> pb.WorkflowTemplate:
    """A built-in template as clients see it."""
    return pb.WorkflowTemplate(
        name=template.name,
        version=template.version,
        description=template.description,
        workflow_json=dump(template.graph) if with_workflow else "",
        parameters=[parameter.to_proto() for parameter in template.parameters],
        etag=etag(template.name, template.version),
    )


def template_of(row: TemplateRow) -> Template:
    """A stored template as jobs are bound to it."""
    message = stored_message(row)
    return Template(
        name=row.name,
        graph=parse(row.workflow),
        parameters=parameters_from_proto(message.parameters),
        description=row.description,
        version=row.version,
    )


def draft_of(
    checks: FieldChecks, message: pb.WorkflowTemplate, rules: WorkflowRules
) -> TemplateDraft:
    """A template that a client wants stored, with everything noted that is wrong with it.

    Checked without the workers' catalogues: a template may be stored before its nodes and models
    are installed anywhere. Its jobs are checked with them.
    """
    parameters: list[Parameter] = []
    for n, parameter in enumerate(message.parameters):
        try:
            parameters.append(Parameter.from_proto(parameter))
        except ValueError:
            checks.wrong(
                f"template.parameters[{n}].type", f"has the unknown value {parameter.type}"
            )
    try:
        graph = parse(message.workflow_json, max_nodes=rules.max_nodes)
    except InvalidWorkflowError as error:
        problems = [
            *description_problems(message.description),
            *(problem.under("workflow_json") for problem in error.problems),
        ]
    else:
        template = Template(message.name, graph, tuple(parameters), message.description)
        problems = template_problems(template, rules.safety)
    for problem in problems:
        checks.wrong(f"template.{problem.path}", problem.description)
    return TemplateDraft(
        name=message.name,
        description=message.description,
        workflow=message.workflow_json,
        parameters=[
            json_format.MessageToDict(parameter, preserving_proto_field_name=True)
            for parameter in message.parameters
        ],
    )
