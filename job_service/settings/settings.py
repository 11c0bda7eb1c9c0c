"""Every setting, with its default and what it is for."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from platformdirs import user_data_path
from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url

from job_service.access import exposure
from job_service.access.certificates import CertificateFiles
from job_service.jobs.limits import MAX_MESSAGE_BYTES, CallLimits, Limits
from job_service.jobs.recipe_book import WorkflowRules
from job_service.settings.shown import as_text, without_password, without_secrets
from job_service.settings.values import (
    Duration,
    LogFormat,
    LogLevel,
    Patterns,
    Retained,
    UnknownModels,
    at_least_five_minutes,
    listen_address,
    multiple_of_8,
    plain_words,
    postgres_url,
    store_url,
)
from job_service.workflows.safety import SafetyRules

PREFIX = "JOB_SERVICE_"


class Settings(BaseSettings):
    """Everything that is fixed for the life of one job_service."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    database_url: Annotated[str, AfterValidator(postgres_url)] | None = Field(
        default=None,
        repr=False,
        description="PostgreSQL to use, postgresql://…; absent: an embedded one in the data "
        "directory",
    )
    listen_database_url: Annotated[str, AfterValidator(postgres_url)] | None = Field(
        default=None,
        repr=False,
        description="the same PostgreSQL for the one connection on which a replica hears of the "
        "others; needed when the URL above leads to a pooler that gives connections to "
        "transactions (PgBouncer), which cannot carry LISTEN",
    )
    catch_up_interval: Duration = Field(
        default=timedelta(seconds=5),
        description="how soon a change at another replica is found when its notification is lost",
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("generation-jobs", appauthor=False),
        description="where the embedded PostgreSQL and, by default, the artifacts are",
    )
    listen: Annotated[str, AfterValidator(listen_address)] = Field(
        default="127.0.0.1:50051", description="host:port for gRPC; port 0 takes a free one"
    )
    tls_cert: Path | None = Field(
        default=None,
        description="PEM file of the certificate to listen with, its chain included; read again "
        "when it changes, as the two below",
    )
    tls_key: Path | None = Field(default=None, description="PEM file of its key, unencrypted")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of the authorities that sign clients' certificates; given: nobody "
        "connects without one, and still needs a token",
    )
    tokens_file: Path | None = Field(
        default=None,
        description="file of tokens as `job-service token create --to-file` writes them, besides "
        "those in the database; read again when it changes",
    )
    require_tokens: bool | None = Field(
        default=None,
        description="whether callers need a token; default: with a tokens file, and when others "
        "than this machine reach the address",
    )
    insecure_listen: Annotated[str, AfterValidator(plain_words)] = Field(
        default="",
        description="to listen beyond this machine without TLS or tokens, set it to: "
        f"{exposure.PLAIN_WORDS}",
    )
    reflection: bool | None = Field(
        default=None,
        description="whether tools may ask what RPCs there are; default: whoever has a token, and "
        "this machine",
    )
    artifact_store: Annotated[str, AfterValidator(store_url)] = Field(
        default="",
        repr=False,
        description="URL of the artifact store; default: artifacts/ in the data directory",
    )
    migrate: bool = Field(
        default=False,
        description="bring the schema up to date at start; the embedded database always is",
    )
    lease_ttl: Duration = Field(
        default=timedelta(seconds=30),
        description="how long a worker may be silent before its jobs are given to others",
    )
    keep_alive: Duration = Field(
        default=timedelta(seconds=15), description="longest silence on a watch"
    )
    tombstone_retention: Duration = Field(
        default=timedelta(days=1),
        description="how long a watch of many jobs may be interrupted and still hear of deletions",
    )
    worker_retention: Retained = Field(
        default=timedelta(days=30),
        description="how long workers are remembered that are not heard of: their processes, and "
        "what their ComfyUIs offered",
    )
    attempt_timeout: Duration = Field(
        default=timedelta(minutes=15),
        description="how long one attempt of a job may run, unless the job says otherwise",
    )
    max_dimension: Annotated[int, AfterValidator(multiple_of_8)] = Field(
        default=2048, ge=64, le=8192, description="largest width and height, in pixels"
    )
    max_batch_size: int = Field(
        default=8, ge=1, le=64, description="most pictures one job may ask for"
    )
    max_input_bytes: int = Field(
        default=32 * 1024**2,
        ge=1024,
        le=1024**3,
        description="bytes of the largest picture a client may upload to start jobs from",
    )
    input_retention: Annotated[Duration, AfterValidator(at_least_five_minutes)] = Field(
        default=timedelta(hours=24),
        description="how long an uploaded picture is kept that no job refers to",
    )
    artifact_retention: Retained | None = Field(
        default=None,
        description="how long files are kept after their job has come to rest; absent: for ever",
    )
    job_retention: Retained | None = Field(
        default=None,
        description="how long jobs and their files are kept after they have come to rest, unless "
        "the application refers to them; absent: for ever",
    )
    max_artifact_bytes: int = Field(
        default=1024**3,
        ge=1024**2,
        le=64 * 1024**3,
        description="bytes of the largest file a worker may upload",
    )
    max_workflow_nodes: int = Field(
        default=1000, ge=1, le=10_000, description="most nodes in the graph of a job or a template"
    )
    allow_node_classes: Patterns = Field(
        default=(),
        description="node classes that graphs may use though they are denied by default; patterns "
        "with * and ?, separated by commas",
    )
    deny_node_classes: Patterns = Field(
        default=(),
        description="node classes that graphs may not use, besides those denied by default because "
        "they run code, open addresses, or read or write outside ComfyUI's folders",
    )
    only_node_classes: Patterns = Field(
        default=(),
        description="the only node classes that graphs may use, besides those allowed above; "
        "empty: all that are not denied",
    )
    unknown_models: UnknownModels = Field(
        default=UnknownModels.WAIT,
        description="jobs with a checkpoint, LoRA, sampler or scheduler that no live worker "
        "offers: wait for one that does, or reject",
    )
    max_pending_per_user: int | None = Field(
        default=None,
        ge=0,
        description="jobs a user may have waiting; absent: any number",
    )
    max_running_per_user: int | None = Field(
        default=None,
        ge=1,
        description="jobs of one user that may run at once; absent: any number",
    )
    create_rate_per_user: float = Field(
        default=100.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="jobs a second that a user may create at each replica in the long run; 0: any "
        "number",
    )
    create_burst_per_user: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="jobs that a user may create at once, before the rate counts",
    )
    max_concurrent_calls: int = Field(
        default=1_000,
        ge=8,
        le=100_000,
        description="calls served at once, besides held calls and transfers; each may hold a "
        "message of the largest size",
    )
    max_held_calls: int = Field(
        default=10_000,
        ge=8,
        le=1_000_000,
        description="calls held at once until something happens: two for each worker, and every "
        "watch; some 25 KB each",
    )
    max_transfers: int = Field(
        default=256, ge=8, le=100_000, description="uploads and downloads served at once"
    )
    max_streams_per_principal: int = Field(
        default=1_000,
        ge=1,
        le=1_000_000,
        description="watches, uploads and downloads that one caller may have open at each replica; "
        "a gateway that acts for users has as many for each",
    )
    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES,
        ge=MAX_MESSAGE_BYTES,
        le=64 * 1024**2,
        description="bytes of the largest request message; clients and workers rely on 4 MiB",
    )
    max_metadata_bytes: int = Field(
        default=16 * 1024,
        ge=4 * 1024,
        le=256 * 1024,
        description="bytes of metadata a call may bring",
    )
    ping_interval: Duration = Field(
        default=timedelta(seconds=30),
        description="how often connections on which nothing moves are pinged, so that dead ones "
        "are found",
    )
    ping_timeout: Duration = Field(
        default=timedelta(seconds=10),
        description="how long another machine may leave what was sent unacknowledged before its "
        "connection is given up; a process that stands still has a minute",
    )
    min_ping_interval: Duration = Field(
        default=timedelta(seconds=10),
        description="clients that ping more often are disconnected with too_many_pings",
    )
    max_connection_age: Duration = Field(
        default=timedelta(minutes=30),
        description="how old a connection gets before the client is asked to open another, so that "
        "new replicas get their share; a tenth more or less",
    )
    max_connection_age_grace: Duration = Field(
        default=timedelta(minutes=5),
        description="how long calls on such a connection may go on before they are cut off; "
        "uploads and downloads must be done by then",
    )
    database_pool_size: int = Field(
        default=8,
        ge=2,
        le=200,
        description="connections to PostgreSQL kept by this process, besides the one that listens",
    )
    shutdown_grace: Duration = Field(
        default=timedelta(seconds=10),
        description="how long calls may go on after SIGTERM before they are cut off",
    )
    metrics_listen: Annotated[str, AfterValidator(listen_address)] | None = Field(
        default=None,
        description="host:port for /metrics, /livez and /readyz over HTTP, without encryption or "
        "tokens; absent: not served",
    )
    metrics_interval: Duration = Field(
        default=timedelta(seconds=15),
        description="how old the figures on the queue in /metrics may be; they take two statements",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="debug, info, warning or error")
    log_format: LogFormat = Field(default=LogFormat.CONSOLE, description="console or json")

    @model_validator(mode="before")
    @classmethod
    def _artifacts_in_the_data_directory(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("artifact_store"):
            return values
        default = cls.model_fields["data_dir"].get_default(call_default_factory=True)
        data_dir = Path(values.get("data_dir") or default).expanduser().absolute()
        return {**values, "artifact_store": (data_dir / "artifacts").as_uri()}

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERT: goes together with {PREFIX}TLS_KEY")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(f"{PREFIX}TLS_CLIENT_CA: needs {PREFIX}TLS_CERT and {PREFIX}TLS_KEY")
        return self

    @model_validator(mode="after")
    def _absolute_data_directory(self) -> Self:
        object.__setattr__(self, "data_dir", self.data_dir.expanduser().absolute())
        return self

    @property
    def embedded_postgres_directory(self) -> Path:
        """Where the embedded PostgreSQL is, when no ``database_url`` is set."""
        return self.data_dir / "postgresql"

    @property
    def certificate_files(self) -> CertificateFiles | None:
        """What to listen with; None: in the clear."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return CertificateFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def asks_for_tokens(self) -> bool:
        """Whether callers need a token."""
        return exposure.asks_for_tokens(
            self.listen,
            required=self.require_tokens,
            has_file=self.tokens_file is not None,
            plain_words=bool(self.insecure_listen),
        )

    @property
    def serves_reflection(self) -> bool:
        """Whether tools may ask what RPCs there are."""
        if self.reflection is not None:
            return self.reflection
        return self.asks_for_tokens or exposure.is_loopback(self.listen)

    def why_not_listen(self) -> str | None:
        """Why the address may not be listened on like this; None: it may."""
        return exposure.why_not(
            self.listen,
            tls=self.tls_cert is not None,
            tokens=self.asks_for_tokens,
            plain_words=bool(self.insecure_listen),
        )

    @property
    def listens_to(self) -> str:
        """Where to hear of other replicas. One of the two URLs must be set."""
        url = self.listen_database_url or self.database_url
        assert url is not None
        return url

    @property
    def limits(self) -> Limits:
        """What a job may ask for."""
        return Limits(
            max_dimension=self.max_dimension,
            max_batch_size=self.max_batch_size,
            attempt_timeout=self.attempt_timeout,
            refuse_unknown_models=self.unknown_models is UnknownModels.REJECT,
        )

    @property
    def call_limits(self) -> CallLimits:
        """How many calls are served at once."""
        return CallLimits(
            short=self.max_concurrent_calls,
            held=self.max_held_calls,
            transfers=self.max_transfers,
            streams_per_principal=self.max_streams_per_principal,
        )

    @property
    def workflow_rules(self) -> WorkflowRules:
        """What the graphs of jobs may do."""
        return WorkflowRules(
            SafetyRules(
                allow=self.allow_node_classes,
                deny=self.deny_node_classes,
                only=self.only_node_classes,
            ),
            self.max_workflow_nodes,
        )

    def shown(self) -> dict[str, str]:
        """Every setting by the name of its environment variable, without secrets."""
        values = self.model_dump(mode="python") | {
            "database_url": self.shown_database_url(),
            "listen_database_url": self.listen_database_url
            and without_password(make_url(self.listen_database_url)),
            "artifact_store": without_secrets(self.artifact_store),
        }
        return {PREFIX + name.upper(): as_text(value) for name, value in values.items()}

    def shown_database_url(self) -> str:
        """Say which database is used, without its password."""
        if self.database_url is None:
            return f"(embedded in {self.embedded_postgres_directory})"
        return without_password(make_url(self.database_url))
