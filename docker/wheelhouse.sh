#!/bin/sh
# Fills docker/wheelhouse with the wheels of a component's lock, for a build without an index: wheelhouse.sh COMPONENT [PIP]
# Run it on Linux with the Python of the images (3.11). Afterwards:
#     docker build --network none -f docker/Dockerfile --build-arg COMPONENT=serve --build-arg BASE_IMAGE=retriever-base:bookworm .
set -eu

component=$1
pip=${2:-python3 -m pip}
folder=$(dirname "$0")
rm -rf "$folder/wheelhouse"
# No release of these has a wheel: they are built here, because a build without an index has nothing to build with.
sources=rouge-score
# shellcheck disable=SC2086  # PIP may be several words
$pip wheel --quiet --disable-pip-version-check --only-binary=:all: --no-binary="$sources" --wheel-dir "$folder/wheelhouse" \
    --requirement "$folder/$component.lock" --constraint "$folder/cuda.lock"
