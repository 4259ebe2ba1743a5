# flyatc with a Python of its own, and the image of the example. For your own app's image (docs/deploy.md):
#   docker build --target flyatc --tag flyatc .      then, in its Dockerfile: COPY --from=flyatc /opt/flyatc /opt/flyatc
#   docker build --target archive --output dist .    the archive, for: ADD flyatc-*-linux-*.tar.gz /opt/

# Debian 12, so that it runs on every glibc from 2.36
FROM python:3.12-bookworm AS build
WORKDIR /src
COPY Makefile pyproject.toml README.md LICENSE ./
COPY .ci/packaging .ci/packaging
COPY tests/requirements-dist.lock tests/
COPY src src
RUN make dist

FROM scratch AS archive
COPY --from=build /src/dist/*.tar.gz /

FROM scratch AS flyatc
COPY --from=build /src/dist/flyatc /opt/flyatc

FROM python:3.12-slim-bookworm
# fly.toml mounts the volume at /data, which must belong to the user that the daemon runs as
RUN useradd --uid 1000 --create-home flyatc && install --directory --owner=flyatc --group=flyatc /data
COPY --from=flyatc /opt/flyatc /opt/flyatc
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
