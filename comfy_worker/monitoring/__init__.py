"""What an operator sees of a worker: metrics, liveness and readiness over HTTP."""
