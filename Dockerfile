# The server for production: bring your own PostgreSQL and Redis by SCOREBOARD_DATABASE_URL and SCOREBOARD_REDIS_URL,
# and a key by SCOREBOARD_JWT_SECRET_FILE or SCOREBOARD_JWT_PUBLIC_KEY_FILE. Without URLs it starts the embedded
# stores under /data, which is then worth a volume, and signs anybody in as a demo user: for trying it out.
FROM python:3.11-slim AS build
WORKDIR /source
COPY setup.py pyproject.toml README.md LICENSE ./
COPY scoreboard scoreboard
COPY sql sql
RUN python -m venv /opt/scoreboard && /opt/scoreboard/bin/pip install --no-cache-dir .

FROM python:3.11-slim
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
