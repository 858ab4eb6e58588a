# The server for production: bring your own PostgreSQL and Redis by SCOREBOARD_DATABASE_URL and SCOREBOARD_REDIS_URL,
# and a key by SCOREBOARD_JWT_SECRET_FILE or SCOREBOARD_JWT_PUBLIC_KEY_FILE. Without URLs it starts the embedded
# stores under /data, which is then worth a volume; SCOREBOARD_DEMO=on then lets anybody play as a demo user.
#
# The base is pinned by its digest, so that a build of today is that of tomorrow. To renew it, put here what this says:
#   docker buildx imagetools inspect python:3.11-slim-trixie --format '{{.Manifest.Digest}}'
# What is installed is pinned by deploy/*.lock; deploy/lock renews them.
ARG BASE=python:3.11.17-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51
FROM ${BASE} AS build
WORKDIR /source
COPY deploy/build.lock deploy/requirements.lock deploy/
RUN pip install --no-cache-dir --require-hashes -r deploy/build.lock \
    && python -m venv /opt/scoreboard \
    && /opt/scoreboard/bin/pip install --no-cache-dir --require-hashes -r deploy/requirements.lock
COPY setup.py pyproject.toml README.md LICENSE ./
COPY scoreboard scoreboard
COPY sql sql
RUN pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
    && /opt/scoreboard/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home scoreboard && install -d -o scoreboard -m 700 /data
COPY --from=build /opt/scoreboard /opt/scoreboard
ENV PATH=/opt/scoreboard/bin:$PATH SCOREBOARD_HOST=0.0.0.0 SCOREBOARD_DATA_DIR=/data SCOREBOARD_LOG_FORMAT=json
USER scoreboard
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=2s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"SCOREBOARD_PORT\", 8000)}/healthz')"]
ENTRYPOINT ["scoreboard"]
CMD ["serve"]
