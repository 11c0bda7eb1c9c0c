# One image a service: docker build --target job-service, comfy-worker or comfy-simulator.
# Each holds its own code and what that needs; none has an embedded PostgreSQL or a build tool.
# They run as user 10001 and with a read-only root; what they write to is named below each.

ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-service.lock requirements-worker.lock ./
# pip stays outside of what is copied into the images.
RUN for part in service worker; do \
        python -m venv --without-pip "/opt/$part" \
        && pip --python "/opt/$part/bin/python" install --require-hashes \
            --requirement "requirements-$part.lock" \
        || exit 1; \
    done
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels . \
    && for part in service worker; do \
        pip --python "/opt/$part/bin/python" install --no-deps /wheels/*.whl || exit 1; \
    done \
    && rm -r /opt/service/lib/python*/site-packages/comfy_worker \
        /opt/service/bin/comfy-worker /opt/service/bin/comfy-simulator \
        /opt/worker/lib/python*/site-packages/job_service \
        /opt/worker/bin/job-service /opt/worker/bin/genjobs

FROM ${PYTHON_IMAGE} AS base
# The folders that volumes are put over: a new volume takes their owner.
RUN useradd --system --uid 10001 --user-group --no-create-home generation-jobs \
    && install --directory --owner 10001 --group 10001 /data /scratch
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
STOPSIGNAL SIGTERM

# Writes to /data (artifacts, when the store is a directory) and /tmp (uploads on their way).
FROM base AS job-service
COPY --from=build /opt/service /opt/service
ENV PATH=/opt/service/bin:$PATH \
    JOB_SERVICE_DATA_DIR=/data \
    JOB_SERVICE_LISTEN=0.0.0.0:50051 \
    JOB_SERVICE_METRICS_LISTEN=0.0.0.0:9090 \
    JOB_SERVICE_LOG_FORMAT=json
VOLUME /data
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-m", "job_service.health_probe", "127.0.0.1:50051"]
CMD ["job-service", "serve"]

FROM base AS worker-base
COPY --from=build /opt/worker /opt/worker
ENV PATH=/opt/worker/bin:$PATH

# Writes to /tmp, if anything.
FROM worker-base AS comfy-simulator
EXPOSE 8188
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8188/queue', timeout=3)"]
CMD ["comfy-simulator", "--listen", "0.0.0.0:8188"]

# Writes to /scratch: pictures and films on their way, up to COMFY_WORKER_MAX_OUTPUT_BYTES each.
FROM worker-base AS comfy-worker
ENV TMPDIR=/scratch \
    COMFY_WORKER_METRICS_LISTEN=0.0.0.0:9091 \
    COMFY_WORKER_LOG_FORMAT=json
VOLUME /scratch
EXPOSE 9091
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9091/readyz', timeout=3)"]
CMD ["comfy-worker", "run"]
