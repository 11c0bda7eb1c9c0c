"""Who may call what: one row for every RPC of the contract.

An admin may call all of them; whoever acts for a user, what that user may. What a caller then sees
and touches is what belongs to its user (``Principal.visible_user``); everything else is NOT_FOUND
to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from job_service.api.call_kind import SERVICES
from job_service.jobs.principal import Principal, Role
from job_service.jobs.refusals import Refusal, RefusedError

ON_BEHALF_OF: Final = "x-on-behalf-of"


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may make a call, besides admins.

    ``gateway_alone``: whether a gateway may make it without saying for which user. It may where
    the answer is about nobody or, by intent, about everybody, and where the request itself names
    each user: a forgotten header must not show or change somebody else's things.
    """

    roles: frozenset[Role]
    gateway_alone: bool = False


_FOR_A_USER: Final = Permission(frozenset({Role.CLIENT, Role.GATEWAY}))
_FOR_ANYBODY: Final = Permission(frozenset({Role.CLIENT, Role.GATEWAY}), gateway_alone=True)
_WORKERS: Final = Permission(frozenset({Role.WORKER}))
_ADMINS: Final = Permission(frozenset())

_TABLE: Final[Mapping[str, Mapping[str, Permission]]] = {
    "GenerationJobService": {
        "CreateJob": _FOR_ANYBODY,
        "BatchCreateJobs": _FOR_ANYBODY,
        "GetJob": _FOR_A_USER,
        "ListJobs": _FOR_A_USER,
        "UpdateJob": _FOR_A_USER,
        "DeleteJob": _FOR_A_USER,
        "CancelJob": _FOR_A_USER,
        "BatchCancelJobs": _FOR_A_USER,
        "RetryJob": _FOR_A_USER,
        "SetJobContent": _FOR_A_USER,
        "WatchJob": _FOR_A_USER,
        "WatchJobs": _FOR_ANYBODY,
        "GetJobStats": _FOR_ANYBODY,
        "GetQueueStats": _FOR_ANYBODY,
        "ReadArtifact": _FOR_A_USER,
        "GetArtifactUrl": _FOR_A_USER,
        "UploadInput": _FOR_ANYBODY,
        "CreateTemplate": _FOR_A_USER,
        "GetTemplate": _FOR_ANYBODY,
        "ListTemplates": _FOR_ANYBODY,
        "UpdateTemplate": _FOR_A_USER,
        "DeleteTemplate": _FOR_A_USER,
    },
    "ModelService": {
        "ListModels": _FOR_ANYBODY,
        "RefreshModels": _FOR_ANYBODY,
    },
    "WorkerService": {
        "LeaseJobs": _WORKERS,
        "Heartbeat": _WORKERS,
        "ReportProgress": _WORKERS,
        "UploadArtifact": _WORKERS,
        "UploadArtifacts": _WORKERS,
        "ReadInput": _WORKERS,
        "CompleteJob": _WORKERS,
        "FailJob": _WORKERS,
        "ReleaseJob": _WORKERS,
        "ReportCatalogue": _WORKERS,
    },
    "OperatorService": {
        "ListWorkers": _ADMINS,
        "GetWorker": _ADMINS,
        "DrainWorker": _ADMINS,
        "ResumeWorker": _ADMINS,
        "ListAttempts": _ADMINS,
        "ExplainJob": _ADMINS,
        "RequeueJob": _ADMINS,
        "FailJobNow": _ADMINS,
        "PauseDispatch": _ADMINS,
        "ResumeDispatch": _ADMINS,
    },
}

#: By the path of the method, for example ``/generation_jobs.v1.ModelService/ListModels``.
PERMISSIONS: Final[Mapping[str, Permission]] = {
    f"{SERVICES}{service}/{rpc}": permission
    for service, rpcs in _TABLE.items()
    for rpc, permission in rpcs.items()
}


def require_permission(method: str, caller: Principal) -> None:
    """Refuse a call that its caller may not make; one without a row nobody may make.

    Raises RefusedError: ROLE_NOT_ALLOWED, USER_REQUIRED.
    """
    permission = PERMISSIONS.get(method)
    if permission is None:
        raise RefusedError(Refusal.ROLE_NOT_ALLOWED, f"nobody may call {method}")
    if caller.on_behalf_of is not None and Role.CLIENT not in permission.roles:
        raise RefusedError(
            Refusal.ROLE_NOT_ALLOWED, f"no user makes this call: leave {ON_BEHALF_OF} metadata out"
        )
    if caller.role is Role.ADMIN:
        return
    if caller.role not in permission.roles:
        allowed = ", ".join(role for role in Role if role in permission.roles | {Role.ADMIN})
        raise RefusedError(
            Refusal.ROLE_NOT_ALLOWED,
            f"{caller.subject} has the role {caller.role}; this call takes {allowed}",
        )
    if caller.role is Role.GATEWAY and caller.on_behalf_of is None and not permission.gateway_alone:
        raise RefusedError(
            Refusal.USER_REQUIRED,
            f"a gateway makes this call for one user, named in {ON_BEHALF_OF} metadata",
        )
