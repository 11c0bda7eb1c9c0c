"""What went wrong and what to do next, on stderr."""

from rich.console import Console
from rich.text import Text

from job_service.client.cli.exit_codes import ExitCode, exit_code_of
from job_service.client.cli.figures import duration
from job_service.client.cli.terminal_text import one_line
from job_service.client.errors import JobServiceError

# By google.rpc.ErrorInfo.reason; see error_reason.proto.
_ADVICE = {
    "INVALID_FIELDS": "Correct what is named above and try again.",
    "MESSAGE_TOO_LARGE": "Make the workflow or the prompt smaller and try again.",
    "JOB_NOT_FOUND": "'genjobs list' shows the jobs you may see.",
    "WORKER_NOT_FOUND": "'genjobs workers --all' shows every worker.",
    "ARTIFACT_NOT_FOUND": "'genjobs get ID' shows the files of a job.",
    "TEMPLATE_NOT_FOUND": "'genjobs templates' lists what there is.",
    "INPUT_NOT_FOUND": "'genjobs upload' stores a picture and says its id.",
    "REQUEST_ID_REUSED": "Leave out --request-id, or give one that was not used before.",
    "WRONG_STATE": "'genjobs get ID' shows the state the job is in.",
    "UNAUTHENTICATED": "Set GENJOBS_TOKEN, or --token-file, to a token the service knows.",
    "TOKEN_UNKNOWN": "Set GENJOBS_TOKEN to a token the service knows.",
    "TOKEN_EXPIRED": "Ask whoever runs the service for a new token.",
    "TOKEN_REVOKED": "Ask whoever runs the service for a new token.",
    "USER_REQUIRED": "Say whose with --on-behalf-of.",
    "ROLE_NOT_ALLOWED": "Use a token whose role allows this.",
    "QUOTA_EXCEEDED": "Wait until jobs have ended, or cancel some: 'genjobs list'.",
    "DATABASE_UNAVAILABLE": "The service is up but its database is not. Try again later.",
    "ARTIFACT_STORE_UNAVAILABLE": "The service cannot reach its files. Try again later.",
    "SHUTTING_DOWN": "The service is restarting. Try again.",
    "NOT_IMPLEMENTED": "This version of the service cannot do that.",
    "INTERNAL": "Tell whoever runs the service; its log has the id named above.",
    "CONTENT_MISMATCH": "Nothing was saved. Try the download again.",
}


def report(console: Console, error: JobServiceError, address: str) -> ExitCode:
    """Print ``report_lines``; answer the exit code they belong to."""
    first, *others = report_lines(error, address)
    console.print(Text.assemble(("error: ", "bold red"), first), soft_wrap=True)
    for line in others:
        console.print(Text(line), soft_wrap=True)
    return exit_code_of(error)


def report_lines(error: JobServiceError, address: str) -> list[str]:
    """Answer what happened, a line for each violation, and what to do next."""
    message = one_line(error.message)
    if not error.reason and exit_code_of(error) is ExitCode.UNREACHABLE:
        lines = [f"the service at {one_line(address)} does not answer", f"  {message}"]
    else:
        if error.message_is_first_violation:
            message = "the request is not valid"
        lines = [f"{message} ({one_line(error.reason) or error.status.name})"]
    lines += [
        f"  {one_line(str(wrong))}"
        for wrong in (*error.violations, *error.quotas, *error.preconditions)
    ]
    lines.append(_advice(error))
    if error.retry_delay is not None:
        lines.append(f"The service asks to wait {duration(error.retry_delay.total_seconds())}.")
    return [*lines, *getattr(error, "__notes__", ())]


def _advice(error: JobServiceError) -> str:
    if known := _ADVICE.get(error.reason):
        return known
    if exit_code_of(error) is ExitCode.UNREACHABLE:
        return (
            "Is it running there? GENJOBS_ADDRESS names another address, GENJOBS_TLS_CA the "
            "root certificates where it uses TLS."
        )
    return "Try again; if that does not help, tell whoever runs the service."
