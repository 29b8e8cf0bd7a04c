# syntax=docker/dockerfile:1.7

# The bridge, built here and copied into an image that holds nothing else. Both stages are the same
# Debian release: the program links against its OpenSSL and zlib (librdkafka's).

FROM rust:1.94-trixie AS build
# Install the release's newest patches, so do not pin versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        g++ libssl-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The caches hold the registry and every compiled dependency: a change of our own code compiles
# our own crates.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --package pgherald --bin pgherald \
    && install --mode=0755 target/release/pgherald /pgherald

FROM debian:trixie-slim
# Upgrade what the base image has: its OpenSSL may be older than the newest patch.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get upgrade --yes \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /pgherald /usr/local/bin/pgherald
# Reachable from outside the container, whatever the configuration file says.
ENV PGHERALD__ADMIN__LISTEN=0.0.0.0:9947
EXPOSE 9947
# A number, so that Kubernetes can see that it is not root. Nothing is written: the root may be
# read-only.
USER 65532:65532
STOPSIGNAL SIGTERM
# Liveness: a broker's outage must not restart the bridge.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/pgherald", "health"]
ENTRYPOINT ["/usr/local/bin/pgherald"]
CMD ["run"]
