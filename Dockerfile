# Three images. Gateway and workers differ in what they run, not in what is installed: one layer of locked packages is
# stored, pulled and scanned once for both. The LLM service needs no client of Kafka and Postgres, and less than half of
# the space (docs/decisions/0047-two-sets-of-packages.md). import-linter checks which package may import which.
FROM python:3.12-slim AS tools
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1
WORKDIR /build
COPY requirements-bootstrap.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements-bootstrap.lock

FROM tools AS wheel
COPY . .
RUN uv build --wheel --require-hashes --build-constraints requirements.lock --out-dir /wheel

FROM tools AS pipeline
COPY requirements-pipeline.lock ./
RUN uv venv --no-project /opt/orchestra \
    && uv pip sync --python /opt/orchestra/bin/python --require-hashes requirements-pipeline.lock
COPY --from=wheel /wheel /wheel
RUN uv pip install --python /opt/orchestra/bin/python --no-deps /wheel/*.whl

FROM tools AS llm
COPY requirements-llm.lock ./
RUN uv venv --no-project /opt/orchestra \
    && uv pip sync --python /opt/orchestra/bin/python --require-hashes requirements-llm.lock
COPY --from=wheel /wheel /wheel
RUN uv pip install --python /opt/orchestra/bin/python --no-deps /wheel/*.whl

FROM python:3.12-slim AS service
ENV PATH=/opt/orchestra/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0
# Nothing is installed into a running service: what could do it goes.
RUN pip uninstall --yes --quiet --root-user-action=ignore pip \
    && python -c "import ensurepip, shutil; shutil.rmtree(ensurepip.__path__[0])"
# A volume that is mounted here belongs to the user below.
RUN install --directory --owner=10001 --group=10001 /var/lib/llm-orchestra/files
WORKDIR /tmp
USER 10001:10001
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.licenses=Apache-2.0

FROM service AS gateway
LABEL org.opencontainers.image.title="LLM Orchestra: gateway"
COPY --from=pipeline /opt/orchestra /opt/orchestra
ENV PORT=8080 TASKS_PORT=8081
EXPOSE 8080 8081
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=3)"]
CMD ["python", "-m", "gateway"]

FROM service AS workers
LABEL org.opencontainers.image.title="LLM Orchestra: workers"
COPY --from=pipeline /opt/orchestra /opt/orchestra
ENV READY_FILE=/tmp/worker-ready METRICS_HOST=0.0.0.0 METRICS_PORT=9464
EXPOSE 9464
# A worker touches the file every 3 s; one that has not for 15 s has lost its lease, or hangs.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import os, sys, time; sys.exit(time.time() - os.path.getmtime(os.environ['READY_FILE']) > 15)"]
CMD ["python", "-m", "workers"]

FROM service AS llm_service
LABEL org.opencontainers.image.title="LLM Orchestra: LLM service"
COPY --from=llm /opt/orchestra /opt/orchestra
ENV PORT=8082
EXPOSE 8082
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=3)"]
CMD ["python", "-m", "llm_service"]
