#!/bin/sh
# Builds the images of components as REGISTRY/<component>:TAG: images.sh REGISTRY TAG COMPONENT...
# VARIANT=gpu builds REGISTRY/<component>:TAG-gpu too where there is a <component>.gpu.lock, for profiles that give the component a
# GPU; what holds torch or vLLM is a CUDA build in the first place. An image above its line in docker/budgets.txt is a failure.
# With PUSH=1 they are pushed too, and DIGESTS (default docker/digests.json) maps each component (index, index-gpu) to its reference
# by digest, which is what `retriever compile` pins. Without a push there is no digest: a registry makes it.
# SBOMS=FOLDER writes what each image holds to FOLDER/<component>.cdx.json (CycloneDX); in the image it is /opt/venv/sbom.cdx.json.
# TRACES=1 adds what sends OpenTelemetry spans. BASE_IMAGE and NETWORK=none build without a registry (docker/offline_base.sh) and an
# index (docker/wheelhouse.sh).
set -eu

registry=${1%/}
tag=$2
shift 2
digests=${DIGESTS:-docker/digests.json}
cd "$(dirname "$0")/.."

fail() {
    echo "images.sh: $2" >&2
    exit "$1"
}

# vLLM compiles kernels when they are first used, so the images of ask, annotate and answer hold a C compiler; and it brings what
# sends traces itself, in versions of its own.
holds_vllm() {
    case "$1" in ask | annotate | answer) ;; *) return 1 ;; esac
}

# A build is a component, or one with its variant: index, index-gpu.
image_of() {
    case "$1" in *-gpu) echo "$registry/${1%-gpu}:$tag-gpu" ;; *) echo "$registry/$1:$tag" ;; esac
}

revision_of() {
    git log -1 --format=%H -- docker components/__init__.py components/shared "components/$1" 2>/dev/null | grep . || echo unknown
}

build() {
    component=${1%-gpu}
    base=${BASE_IMAGE:-}
    arguments="--build-arg COMPONENT=$component --build-arg VERSION=$tag --build-arg REVISION=$(revision_of "$component")"
    [ "$component" = "$1" ] || arguments="$arguments --build-arg VARIANT=gpu"
    if holds_vllm "$component"; then
        base=${base:-${BASE_WITH_COMPILER:-python:3.11-bookworm}}
    elif [ "${TRACES:-}" = 1 ]; then
        arguments="$arguments --build-arg MORE=traces.lock"
    fi
    [ -z "$base" ] || arguments="$arguments --build-arg BASE_IMAGE=$base"
    [ -z "${NETWORK:-}" ] || arguments="$arguments --network $NETWORK"
    # shellcheck disable=SC2086  # several words, none with a space
    docker build --file docker/Dockerfile $arguments --tag "$(image_of "$1")" .
}

hold_to_budget() {
    budget=$(awk -v build="$1" '$1 == build { print $2 }' docker/budgets.txt)
    [ -n "$budget" ] || fail 1 "docker/budgets.txt has no line for $1; give it one, in MB"
    megabytes=$(($(docker image inspect --format '{{.Size}}' "$(image_of "$1")") / 1000000))
    echo "$(image_of "$1"): $megabytes MB of $budget"
    [ "$megabytes" -le "$budget" ] || fail 1 "the image of $1 has $megabytes MB, docker/budgets.txt allows $budget; take out what it does not need, or raise its line"
}

write_sbom() {
    mkdir -p "$SBOMS"
    docker run --rm --network none "$(image_of "$1")" cat /opt/venv/sbom.cdx.json >"$SBOMS/$1.cdx.json.part"
    mv "$SBOMS/$1.cdx.json.part" "$SBOMS/$1.cdx.json"
}

case "${VARIANT:-}" in '' | gpu) ;; *) fail 2 "VARIANT=$VARIANT is not known; gpu is, or none" ;; esac
if [ "${PUSH:-}" = 1 ]; then
    case "$registry" in
    */*) ;;
    *) fail 2 "$registry is no registry to push to; set REGISTRY to host/folder" ;;
    esac
    # What it says of earlier images is no longer true once the first of these is pushed.
    rm -f "$digests"
fi

builds=''
for component; do
    builds="$builds $component"
    if [ "${VARIANT:-}" = gpu ] && [ -f "docker/$component.gpu.lock" ]; then builds="$builds $component-gpu"; fi
done
for one in $builds; do
    build "$one"
    hold_to_budget "$one"
    [ -z "${SBOMS:-}" ] || write_sbom "$one"
done
[ "${PUSH:-}" = 1 ] || exit 0

content=''
for one in $builds; do
    repository=$registry/${one%-gpu}
    docker push "$(image_of "$one")"
    reference=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$(image_of "$one")" |
        grep "^$repository@sha256:") || fail 1 "the registry gave $one no digest"
    # Pushed twice with another content, it has two; the newest comes last.
    reference=$(echo "$reference" | tail -n 1)
    content="$content${content:+,
}  \"$one\": \"$reference\""
done
printf '{\n%s\n}\n' "$content" >"$digests.part"
mv "$digests.part" "$digests"
echo "pinned by digest: $digests"
