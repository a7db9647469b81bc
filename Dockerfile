# Weir in a small image: the program, the libraries it is linked with, nothing to log in to.
#
#   docker build -t weir:0.1.0 .
ARG SWIFT=6.3-bookworm

FROM swift:${SWIFT} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Debian keeps one version of each in a release: there is none to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libcurl4-openssl-dev libevent-dev libnghttp2-dev libssl-dev libzstd-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Package.swift ./
COPY Sources Sources
COPY Tests Tests
RUN swift build -c release --static-swift-stdlib --product weir \
    && strip -o /weir .build/release/weir

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates libcurl4 libevent-core-2.1-7 libssl3 tzdata \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /weir /usr/local/bin/weir
USER 65532:65532
EXPOSE 8080 9901
ENTRYPOINT ["/usr/local/bin/weir"]
CMD ["--help"]
