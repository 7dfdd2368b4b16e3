# Two images, from scratch: nothing in them but static programs, and no shell.
#
#     podman build --target code-server -t code-server .
#     podman build --target fetch-init  -t fetch-init  .
#
# `code-server` lies on top of `fetch-init` and holds both programs: a node that has it needs only a few bytes more for
# the other, and a cluster into which images are loaded by hand needs one. Add `--format docker` if the HEALTHCHECK shall
# be kept: the OCI format has no place for it. (Kubernetes looks at its own probes in either case.)
#
# The last three stages need no base image. With binaries built elsewhere, they replace the stage `build`:
#
#     cargo static --target "$(rustc --print host-tuple)"
#     mkdir -p target/image/out/state && mkdir -m 0700 target/image/out/state/code-server
#     cp target/*/release/code-server target/*/release/fetch-init target/image/out/
#     podman build --build-context build=target/image --target code-server -t code-server .

ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm

FROM ${RUST_IMAGE} AS build
WORKDIR /src

# The dependencies alone, under programs that do nothing: a layer that lasts until the lock file changes.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin benches && touch benches/stages.rs && echo '//! Nothing.' > src/lib.rs \
    && for program in code-server fetch-init; do \
        printf '//! Nothing.\nfn main() {}\n' > "src/bin/$program.rs"; \
    done \
    && cargo static --target "$(rustc --print host-tuple)"

# Cargo tells changes by time, and a checkout may be older than the layer above.
COPY src src
RUN find src -name '*.rs' -exec touch {} + \
    && cargo static --target "$(rustc --print host-tuple)" \
    && mkdir /out \
    && cd "target/$(rustc --print host-tuple)/release" \
    && mv code-server fetch-init /out/
RUN for program in /out/*; do \
        ldd "$program" 2>&1 | grep -q 'statically linked' \
            || { echo "$program is not linked statically" >&2; exit 1; }; \
    done
# The contents of a directory that is copied keep their modes; the directory that they are copied to need not.
RUN mkdir /out/state && mkdir -m 0700 /out/state/code-server

FROM scratch AS base
COPY --from=build /out/fetch-init /fetch-init
# Memory that is free goes back to the system: a pod has little of it, and threads that each keep their own need twice as much.
ENV GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=131072:glibc.malloc.mmap_threshold=131072
USER 65532:65532

FROM base AS fetch-init
ARG VERSION=unknown
LABEL org.opencontainers.image.title="fetch-init" \
    org.opencontainers.image.description="Fetches code from a code-server, verifies it and installs it, before an application starts" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}"
ENTRYPOINT ["/fetch-init"]

FROM base AS code-server
ARG VERSION=unknown
LABEL org.opencontainers.image.title="code-server" \
    org.opencontainers.image.description="Serves a directory of code over HTTP as one content-hashed archive" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/code-server /code-server
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/
ENV CODE_SERVER_LISTEN=[::]:8080 \
    CODE_SERVER_STATE_DIR=/var/lib/code-server
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/code-server", "healthcheck"]
ENTRYPOINT ["/code-server"]
