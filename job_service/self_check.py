"""What ``job-service check`` looks at: database, schema, artifact store, and who may reach it."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from job_service import process
from job_service.access import tokens_file
from job_service.access.certificates import Certificates
from job_service.artifacts.objects import ObjectStoreOfArtifacts
from job_service.cannot_run import CannotRunError
from job_service.jobs.refusals import RefusedError
from job_service.settings import Settings, without_secrets
from job_service.store import migrate as schema
from job_service.store.migrate import SchemaState


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    good: bool
    says: str


async def run(settings: Settings) -> list[Finding]:
    """Look at everything; what cannot be reached is a finding, not an error."""
    return [
        *await _database(settings),
        await _artifact_store(settings.artifact_store),
        _access(settings),
    ]


def _access(settings: Settings) -> Finding:
    """Look at who can reach the service, and in which ways it knows them."""
    why_not = settings.why_not_listen()
    if why_not is not None:
        return Finding("access", good=False, says=why_not)
    files = settings.certificate_files
    known = "every caller is the local admin"
    try:
        if files is not None:
            Certificates(files)
        if settings.asks_for_tokens:
            known = "callers need a token"
        if settings.tokens_file is not None:
            known += f"; {len(tokens_file.read(settings.tokens_file))} are in the tokens file"
    except CannotRunError as error:
        return Finding("access", good=False, says=str(error))
    protection = "in the clear" if files is None else "over TLS"
    if settings.tls_client_ca is not None:
        protection = "over mutual TLS"
    return Finding("access", good=True, says=f"{settings.listen} {protection}; {known}")


async def _database(settings: Settings) -> list[Finding]:
    try:
        async with process.database(settings) as (url, _):
            state = await asyncio.to_thread(schema.check, url)
            found = await asyncio.to_thread(schema.current, url)
    except CannotRunError as error:
        return [Finding("database", good=False, says=str(error))]
    expected = schema.expected()
    return [
        Finding("database", good=True, says=f"reached {settings.shown_database_url()}"),
        Finding(
            "schema",
            good=state is SchemaState.CURRENT,
            says=f"at revision {found}"
            if state is SchemaState.CURRENT
            else f"{state.value} (at {found}, this version needs {expected}); "
            "`job-service migrate` brings it up to date",
        ),
    ]


async def _artifact_store(url: str) -> Finding:
    """Write, read and delete a small object under a name nobody else uses."""
    key, content = f".check-{secrets.token_hex(8)}", secrets.token_bytes(16)

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    try:
        store = ObjectStoreOfArtifacts.from_url(url)
        await store.put(
            key,
            chunks(),
            size=len(content),
            sha256=hashlib.sha256(content).digest(),
            content_type="application/octet-stream",
        )
        read = b"".join([chunk async for chunk in store.read(key, len(content))])
        await store.delete([key])
    except RefusedError as error:
        return _bad_store(url, error.__cause__ or error)
    except (OSError, ValueError) as error:
        return _bad_store(url, error)
    if read != content:
        return Finding(
            "artifact store",
            good=False,
            says=f"{without_secrets(url)} answers other bytes than it got",
        )
    return Finding("artifact store", good=True, says=f"{without_secrets(url)} keeps what it gets")


def _bad_store(url: str, error: BaseException) -> Finding:
    return Finding(
        "artifact store", good=False, says=f"{without_secrets(url)}: {str(error).splitlines()[0]}"
    )
