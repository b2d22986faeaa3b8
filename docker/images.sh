#!/bin/sh
# Builds the images of components as REGISTRY/<component>:TAG: images.sh REGISTRY TAG COMPONENT...
# With PUSH=1 they are pushed too, and DIGESTS (default docker/digests.json) maps each component to its reference by digest, which
# is what `retriever compile` pins. TRACES=1 adds what sends OpenTelemetry spans. Without a push there is no digest: a registry makes it.
set -eu

registry=${1%/}
tag=$2
shift 2
digests=${DIGESTS:-docker/digests.json}
cd "$(dirname "$0")/.."

# vLLM compiles kernels when they are first used, so the images of ask, annotate and answer hold a C compiler.
base_of() {
    case "$1" in ask | annotate | answer) echo "--build-arg BASE_IMAGE=${BASE_WITH_COMPILER:-python:3.11-bookworm}" ;; esac
}

# vLLM brings the packages itself, in versions of its own.
more_of() {
    case "$1" in ask | annotate | answer) ;; *) [ "${TRACES:-}" != 1 ] || echo "--build-arg MORE=traces.lock" ;; esac
}

if [ "${PUSH:-}" = 1 ]; then
    case "$registry" in
    */*) ;;
    *)
        echo "images.sh: $registry is no registry to push to; set REGISTRY to host/folder" >&2
        exit 2
        ;;
    esac
    # What it says of earlier images is no longer true once the first of these is pushed.
    rm -f "$digests"
fi
for component; do
    # shellcheck disable=SC2046  # nothing, or two words each
    docker build --file docker/Dockerfile --build-arg "COMPONENT=$component" $(base_of "$component") $(more_of "$component") --tag "$registry/$component:$tag" .
done
[ "${PUSH:-}" = 1 ] || exit 0

content=''
for component; do
    docker push "$registry/$component:$tag"
    reference=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$registry/$component:$tag" |
        grep "^$registry/$component@sha256:") || { echo "images.sh: the registry gave $component no digest" >&2; exit 1; }
    # Pushed twice with another content, it has two; the newest comes last.
    reference=$(echo "$reference" | tail -n 1)
    content="$content${content:+,
}  \"$component\": \"$reference\""
done
printf '{\n%s\n}\n' "$content" >"$digests.part"
mv "$digests.part" "$digests"
echo "pinned by digest: $digests"
