"""What ``job-service check`` looks at: database, schema, artifact store, and who may reach it."""

import asyncio
import errno
import hashlib
import secrets
import socket
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
from job_service.store.migrate import SchemaState, UnfitEncodingError
from job_service.store.server_facts import OLDEST_POSTGRESQL, ServerFacts, server_facts


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; when it is not good, ``remedy`` says how to mend it."""

    subject: str
    good: bool
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.good or self.remedy, f"{self.subject} fails, and nobody is told what to do"


async def run(settings: Settings) -> list[Finding]:
    """Look at everything; what cannot be reached is a finding, not an error."""
    return [
        *await _database(settings),
        await _artifact_store(settings.artifact_store),
        _access(settings),
        *_addresses(settings),
    ]


def _access(settings: Settings) -> Finding:
    """Look at who can reach the service, and in which ways it knows them."""
    why_not = settings.why_not_listen()
    if why_not is not None:
        return Finding(
            "access",
            good=False,
            says=why_not,
            remedy="set JOB_SERVICE_TLS_CERT and _KEY and make tokens (`job-service token create`),"
            " or listen on 127.0.0.1",
        )
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
        return Finding(
            "access",
            good=False,
            says=str(error),
            remedy="put the file in place, readable by the user that job_service runs as",
        )
    protection = "in the clear" if files is None else "over TLS"
    if settings.tls_client_ca is not None:
        protection = "over mutual TLS"
    return Finding("access", good=True, says=f"{settings.listen} {protection}; {known}")


async def _database(settings: Settings) -> list[Finding]:
    try:
        async with process.database(settings) as (url, _):
            found = await asyncio.to_thread(schema.current, url)
            facts = await asyncio.to_thread(server_facts, url)
    except UnfitEncodingError as error:
        remedy = "a database cannot change its encoding: create it anew, and `job-service migrate`"
        return [Finding("database", good=False, says=str(error), remedy=remedy)]
    except CannotRunError as error:
        remedy = (
            "start PostgreSQL, and see that host, port, user and password in"
            " JOB_SERVICE_DATABASE_URL are right"
            if settings.database_url is not None
            else "see that JOB_SERVICE_DATA_DIR can be written to and that no other job_service"
            " uses it, or name a PostgreSQL in JOB_SERVICE_DATABASE_URL"
        )
        return [Finding("database", good=False, says=str(error), remedy=remedy)]
    return [_server(settings, facts), _schema(found)]


def _server(settings: Settings, facts: ServerFacts) -> Finding:
    """Whether this PostgreSQL, and this user of it, will do."""
    subject = "database"
    if facts.version < OLDEST_POSTGRESQL:
        return Finding(
            subject,
            good=False,
            says=f"is PostgreSQL {facts.version}",
            remedy=f"upgrade PostgreSQL to {OLDEST_POSTGRESQL} or newer",
        )
    if facts.read_only:
        return Finding(
            subject,
            good=False,
            says="takes no writes: it is a standby, or read-only",
            remedy="name the primary in JOB_SERVICE_DATABASE_URL",
        )
    if not facts.may_write:
        return Finding(
            subject,
            good=False,
            says=f"user {facts.user} may not write to generation_jobs",
            remedy=f"make {facts.user} the owner of the tables: run `job-service migrate` as that"
            f" user, or GRANT ALL ON ALL TABLES IN SCHEMA public TO {facts.user}",
        )
    if facts.connections_left < settings.database_pool_size:
        return Finding(
            subject,
            good=False,
            says=f"has {facts.connections_left} connections left of {facts.max_connections}, and"
            f" this job_service may open {settings.database_pool_size}",
            remedy="raise max_connections in postgresql.conf, or lower"
            " JOB_SERVICE_DATABASE_POOL_SIZE",
        )
    return Finding(subject, good=True, says=f"reached {settings.shown_database_url()}")


def _schema(found: str | None) -> Finding:
    revisions = schema.revisions()
    state = revisions.state_of(found)
    if state is SchemaState.CURRENT:
        return Finding("schema", good=True, says=f"at revision {found}")
    if state is SchemaState.UNKNOWN:
        return Finding(
            "schema",
            good=False,
            says=f"{state.value} (at {found}, this version knows up to {revisions.expected})",
            remedy="install the version of job_service that migrated it; this one goes on working"
            " until then",
        )
    return Finding(
        "schema",
        good=False,
        says=f"{state.value} (at {found}, this version needs {revisions.expected})",
        remedy="`job-service migrate` brings it up to date",
    )


def _addresses(settings: Settings) -> list[Finding]:
    """Whether the addresses to listen on are this machine's, and free or a job_service's."""
    asked = {"address": settings.listen, "metrics address": settings.metrics_listen}
    return [_address(subject, one) for subject, one in asked.items() if one is not None]


def _address(subject: str, listen: str) -> Finding:
    host, _, port = listen.rpartition(":")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Finding(subject, good=True, says=f"{listen} is in use, as by a running service")
        return Finding(
            subject,
            good=False,
            says=f"{listen} cannot be listened on: {error.strerror or error}",
            remedy="name an address of this machine, or 0.0.0.0; below port 1024 only root listens",
        )
    return Finding(subject, good=True, says=f"{listen} is free")


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
            remedy="look for a proxy, a cache or another program that writes there",
        )
    return Finding("artifact store", good=True, says=f"{without_secrets(url)} keeps what it gets")


def _bad_store(url: str, error: BaseException) -> Finding:
    remedy = (
        "have the directory belong to the user that job_service runs as, with room on its disk"
        if url.startswith("file:")
        else "see that the bucket exists and that the credentials in the environment may read,"
        " write and delete there"
    )
    return Finding(
        "artifact store",
        good=False,
        says=f"{without_secrets(url)}: {str(error).splitlines()[0]}",
        remedy=remedy,
    )
