# docker build -t kektordb .
# docker run -p 127.0.0.1:9091:9091 -v kektordb:/data -e KEKTOR_TOKEN=... kektordb
# docs/deploying.md has more, deploy/compose.yaml an example.

FROM python:3.13-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/kektordb
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY kektordb ./kektordb
RUN /opt/kektordb/bin/pip install --no-cache-dir ".[server]"


FROM python:3.13-slim-bookworm
# OpenMP: batches use all cores.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 kektordb \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin kektordb \
    && install -d -o kektordb -g kektordb -m 0700 /data
COPY --from=build /opt/kektordb /opt/kektordb
ENV PATH=/opt/kektordb/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    KEKTOR_DATA_DIR=/data
USER kektordb
WORKDIR /data
VOLUME /data
EXPOSE 9091
# A large database takes a while to be loaded; until then nobody is answered.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9091/healthz', timeout=4)"]
ENTRYPOINT ["kektordb"]
# Reachable from outside of the container, and therefore with a token: KEKTOR_TOKEN, or --auth-token-file.
CMD ["serve", "--http-addr", "0.0.0.0:9091"]
