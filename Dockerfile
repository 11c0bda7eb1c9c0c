# One image for every part: job-service (the default), comfy-worker run, comfy-simulator, genjobs.

FROM python:3.13-slim AS build
RUN python -m venv /opt/generation-jobs
ENV PATH=/opt/generation-jobs/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /src/
RUN pip install --require-hashes --requirement /src/requirements.lock
COPY . /src
RUN pip install --no-deps /src

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --create-home generation-jobs
COPY --from=build /opt/generation-jobs /opt/generation-jobs
ENV PATH=/opt/generation-jobs/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    JOB_SERVICE_DATA_DIR=/data \
    JOB_SERVICE_LISTEN=0.0.0.0:50051 \
    JOB_SERVICE_LOG_FORMAT=json
USER 10001
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-m", "job_service.health_probe"]
CMD ["job-service", "serve"]
