# One image for the four services; compose.yaml picks the program.
FROM swift:6.3-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends librabbitmq-dev libcurl4-openssl-dev libsqlite3-dev libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies first: they change less often than the sources.
COPY Package.swift Package.resolve[d] ./
RUN swift package resolve
COPY Sources Sources
COPY Tests Tests
RUN swift build -c release \
    && mkdir -p /out/bin /out/python \
    && folder=$(swift build -c release --show-bin-path) \
    && cp "$folder"/dcm-ingest "$folder"/dcm-router "$folder"/dcm-worker "$folder"/dcm-monitor "$folder"/dcm-tool /out/bin/ \
    # The monitor looks for its pages beside its executable.
    && cp -R "$folder"/dcm-processor_Dashboard.resources /out/bin/ \
    && test -f /out/bin/dcm-processor_Dashboard.resources/Resources/monitor.css
COPY python/dcm_processor /out/python/dcm_processor

FROM swift:6.3-bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends librabbitmq4 libcurl4 libsqlite3-0 libssl3 \
        python3 python3-venv python3-numpy python3-nibabel python3-pil python3-pydicom dcm2niix \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home dcm \
    && mkdir /state /data /logs /registry /modules /environments /secrets \
    && chown dcm:dcm /state /data /logs /registry /modules /environments /secrets \
    && chmod 700 /secrets
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build /out/python/ /usr/share/dcm-processor/python/
# What empty volumes are filled with; 'dcm-tool service install' takes them from here.
COPY services /usr/share/dcm-processor/services
COPY registry/settings.json /usr/share/dcm-processor/registry/settings.json
ENV LANG=C.UTF-8 PYTHON=/usr/bin/python3 PYTHONHOST_PATH=/usr/share/dcm-processor/python \
    BUNDLED_SERVICES=/usr/share/dcm-processor/services READY_FILE=/tmp/dcm-processor.ready
USER dcm
VOLUME ["/state", "/data", "/logs", "/environments"]
# A service touches its file every 5 seconds once it is ready.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD test -n "$(find "$READY_FILE" -mmin -0.5 2>/dev/null)"
CMD ["dcm-worker"]
