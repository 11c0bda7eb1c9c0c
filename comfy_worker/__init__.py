"""comfy_worker: takes generation jobs from job_service and drives ComfyUI servers."""

import os

# gRPC's own log writes to standard error what a peer has sent, raw, lines and escape sequences
# included. It reads this once, when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
