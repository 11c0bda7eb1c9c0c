"""job_service: owns the table ``generation_jobs`` and serves it over gRPC."""

import os

# gRPC's own log writes to standard error what a peer has sent, raw: lines and escape sequences of
# whoever can connect. It reads this once, when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
