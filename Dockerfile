# The image of the example. For your own app, start from its image and copy /opt/flyatc in the same way (docs/deploy.md).

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/flyatc && /opt/flyatc/bin/pip install --no-cache-dir '.[litestream]'

FROM python:3.12-slim
# fly.toml mounts the volume at /data, which must belong to the user that the daemon runs as
RUN useradd --uid 1000 --create-home flyatc && install --directory --owner=flyatc --group=flyatc /data
COPY --from=build /opt/flyatc /opt/flyatc
# FLYATC_DATA overrides server.data, which is for laptops; the store is the bucket of $BUCKET_NAME. FLYATC_CONFIG is for
# commands that fly ssh console or flyatc users run in the machine
ENV PATH=/opt/flyatc/bin:$PATH FLYATC_CONFIG=/app/tenants.yaml FLYATC_DATA=/data PYTHONUNBUFFERED=1
WORKDIR /app
COPY examples/counter examples/counter
COPY tenants.yaml .
USER flyatc
EXPOSE 3000
# Exec form, so that signals reach the daemon; a shell would not pass them on
CMD ["flyatc", "serve"]
