"""job_service: owns the table ``generation_jobs`` and serves it over gRPC."""
