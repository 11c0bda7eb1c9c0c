"""Bounds and defaults of what a job may ask for."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

MAX_PROMPT: Final = 20_000
MAX_NAME: Final = 255
MAX_WORD: Final = 63
MAX_REASON: Final = 500
MAX_REQUEST_ID: Final = 128
MAX_LORAS: Final = 16
MAX_LABELS: Final = 64
MAX_PARAMS_BYTES: Final = 256 * 1024
MAX_WORKFLOW_BYTES: Final = 1024 * 1024
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_CHUNK_BYTES: Final = 256 * 1024
MAX_PREVIEW_BYTES: Final = 256 * 1024
#: Of UploadArtifacts: files of a call, and their content in all.
MAX_UPLOADED_TOGETHER: Final = 64
MAX_UPLOADED_TOGETHER_BYTES: Final = 3 * 1024 * 1024
#: An answer that would grow beyond this comes back short instead.
MAX_REPLY_BYTES: Final = 3 * 1024 * 1024
MAX_BATCH_CREATE: Final = 1_000
#: Alternatives that one condition of a filter may name.
MAX_CHOICES: Final = 64
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 50
THUMBNAIL_SIZES: Final = (150, 300, 600)

MIN_URL_LIFETIME: Final = timedelta(minutes=1)
MAX_URL_LIFETIME: Final = timedelta(hours=24)
DEFAULT_URL_LIFETIME: Final = timedelta(minutes=15)

DEFAULT_WIDTH: Final = 832
DEFAULT_HEIGHT: Final = 1216
DEFAULT_BATCH_SIZE: Final = 1
DEFAULT_STEPS: Final = 28
DEFAULT_CFG: Final = 5.5
DEFAULT_SAMPLER: Final = "euler"
DEFAULT_SCHEDULER: Final = "normal"
DEFAULT_DENOISE: Final = 1.0
DEFAULT_LORA_STRENGTH: Final = 0.8
DEFAULT_BACKEND: Final = "comfyui"
DEFAULT_MAX_ATTEMPTS: Final = 3

#: Seeds the service draws are exact as a JavaScript number.
DRAWN_SEED_BOUND: Final = 2**53
MAX_SEED: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that an installation may set."""

    max_dimension: int = 2048
    max_batch_size: int = 8
    attempt_timeout: timedelta = timedelta(minutes=15)
    #: Refuse models, samplers and schedulers that no live worker offers, instead of letting the
    #: job wait for one that does.
    refuse_unknown_models: bool = False


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Most calls served at once by one replica."""

    short: int = 1_000
    held: int = 10_000
    transfers: int = 256
    #: WatchJob, WatchJobs, and uploads and downloads in pieces, of one principal
    streams_per_principal: int = 1_000
