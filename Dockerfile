# syntax=docker/dockerfile:1
# The service with its model, for a read-only root file system and a user without a name:
#   docker build -t rasid:0.1.0 .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 50051:50051 -p 9464:9464 rasid
# For a release, pin both bases by digest: --build-arg RUST=rust@sha256:… --build-arg BASE=debian@sha256:…
# Not the slim one: jemalloc is built with make.
ARG RUST=rust:1.95-bookworm
ARG BASE=debian:12.12-slim

FROM ${RUST} AS build
WORKDIR /build
# Dependencies first, with nothing of ours in them: this layer lasts until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches \
    && echo 'fn main() {}' >build.rs && cp build.rs src/main.rs && cp build.rs benches/encoder.rs && touch src/lib.rs \
    && cargo build --release --locked --features otlp \
    && rm -r build.rs src benches target/release/build/rasid-* target/release/.fingerprint/rasid-*
COPY build.rs ./
COPY proto proto
COPY benches benches
COPY examples examples
COPY src src
RUN cargo build --release --locked --features otlp && install -s target/release/rasid /usr/local/bin/rasid

FROM ${BASE}
COPY models/default /usr/share/rasid/models/default
COPY LICENSE /usr/share/doc/rasid/LICENSE
COPY --from=build /usr/local/bin/rasid /usr/local/bin/rasid
ENV RASID_MODEL=/usr/share/rasid/models/default \
    RASID_LISTEN=0.0.0.0:50051 \
    RASID_METRICS_LISTEN=0.0.0.0:9464 \
    RASID_LOG_FORMAT=json
EXPOSE 50051 9464
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["rasid", "health"]
ENTRYPOINT ["rasid"]
CMD ["serve"]
