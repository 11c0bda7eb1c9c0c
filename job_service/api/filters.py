"""What a client asks of a list: conditions and order, decoded and checked."""

import re
from collections.abc import Mapping
from typing import Any, Final

from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from job_service.api import opaque_token, page_token
from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.principal import Principal
from job_service.jobs.states import STATUS_FROM_WIRE, TYPE_FROM_WIRE
from job_service.store.conditions import JobConditions
from job_service.store.listing import JobListing, Order

_ORDERS: Final[Mapping[int, Order]] = {
    pb.JOB_ORDER_UNSPECIFIED: Order.CREATED_DESC,
    pb.JOB_ORDER_CREATED_DESC: Order.CREATED_DESC,
    pb.JOB_ORDER_CREATED_ASC: Order.CREATED_ASC,
    pb.JOB_ORDER_UPDATED_DESC: Order.UPDATED_DESC,
    pb.JOB_ORDER_COMPLETED_DESC: Order.COMPLETED_DESC,
}


def conditions(
    checks: FieldChecks, filters: job_pb2.JobFilter, caller: Principal, path: str = "filter"
) -> JobConditions:
    """The conditions of a filter, held to what the caller may see."""
    user_id = caller.visible_user
    if filters.user_id:
        named = checks.uuid(f"{path}.user_id", filters.user_id)
        if named is not None and user_id not in (None, named):
            checks.wrong(f"{path}.user_id", caller.why_no_other_user)
        user_id = named
    checks.text(f"{path}.checkpoint_model", filters.checkpoint_model, longest=limits.MAX_NAME)
    checks.text(f"{path}.search", filters.search, longest=_MAX_SEARCH)
    if _MANY_NEGATIONS.search(filters.search):
        checks.wrong(f"{path}.search", "must not have 25 minus signs without a word among them")
    for n, backend in enumerate(filters.backends[: limits.MAX_CHOICES]):
        checks.text(f"{path}.backends[{n}]", backend, longest=limits.MAX_WORD)
    for key, value in filters.labels.items():
        checks.text(f"{path}.labels[{key[:63]!r}]", key, shortest=1, longest=limits.MAX_WORD)
        checks.text(f"{path}.labels[{key[:63]!r}]", value, longest=limits.MAX_NAME)
    for name, most in (
        ("statuses", limits.MAX_CHOICES),
        ("job_types", limits.MAX_CHOICES),
        ("backends", limits.MAX_CHOICES),
        ("labels", limits.MAX_LABELS),
        ("ids", limits.MAX_PAGE),
    ):
        if len(getattr(filters, name)) > most:
            checks.wrong(f"{path}.{name}", f"must have at most {most:,} entries")
    return JobConditions(
        user_id=user_id,
        statuses=_words(checks, f"{path}.statuses", filters.statuses, STATUS_FROM_WIRE),
        job_types=_words(checks, f"{path}.job_types", filters.job_types, TYPE_FROM_WIRE),
        checkpoint_model=filters.checkpoint_model,
        labels=dict(filters.labels),
        **{
            name: checks.timestamp(f"{path}.{name}", getattr(filters, name))
            for name in _TIMES
            if filters.HasField(name)
        },
        search=filters.search,
        backends=list(filters.backends),
        legacy_request_id=(
            filters.legacy_request_id if filters.HasField("legacy_request_id") else None
        ),
        ids=list(filters.ids),
    )


def check_view(checks: FieldChecks, view: int) -> None:
    """Note a view that there is none of."""
    if view not in job_pb2.JobView.values():
        checks.wrong("view", f"has the unknown value {view}")


def listing_of(
    checks: FieldChecks, request: pb.ListJobsRequest, caller: Principal
) -> tuple[JobListing, bytes]:
    """What to ask the table, and the digest for page tokens."""
    wanted = conditions(checks, request.filter, caller)
    order = _ORDERS.get(request.order_by)
    if order is None:
        checks.wrong("order_by", f"has the unknown value {request.order_by}")
    check_view(checks, request.view)
    page_size = checks.integer("page_size", request.page_size, low=0, high=limits.MAX_PAGE)
    digest = opaque_token.digest(request.filter, request.order_by, str(caller.visible_user))
    after = page_token.decode(checks, "page_token", request.page_token, digest)
    listing = JobListing(
        wanted,
        limit=page_size or limits.DEFAULT_PAGE,
        max_bytes=limits.MAX_REPLY_BYTES,
        order=order or Order.CREATED_DESC,
        after=after,
    )
    return listing, digest


_MAX_SEARCH: Final = 1_000
#: PostgreSQL stacks negations until their word comes, and has room for 32.
_MANY_NEGATIONS: Final = re.compile(r"(?:-[^\w-]*){25}")
_TIMES: Final = ("created_after", "created_before", "completed_after", "completed_before")


def _words(checks: FieldChecks, path: str, values: Any, words: Mapping[Any, str]) -> list[str]:
    found = [
        checks.enum(f"{path}[{n}]", value, words)
        for n, value in enumerate(values[: limits.MAX_CHOICES])
    ]
    return [word for word in found if word]
