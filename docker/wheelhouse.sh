#!/bin/sh
# Fills docker/wheelhouse with the files of locks, for builds without an index: wheelhouse.sh LOCK... (serve, or index.gpu)
# Run it on Linux with the Python of the images (3.11); PIP says how pip is called. Every file is held against its sha256, here and
# in the build. Locks that differ in a version (those of ask, annotate and answer, which hold vLLM, and all others) do not go into one.
# Afterwards: BASE_IMAGE=retriever-base:bookworm NETWORK=none sh docker/images.sh retriever 0.1.0 serve
set -eu

folder=$(dirname "$0")
rm -rf "$folder/wheelhouse"
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
for lock in build "$@"; do grep '==' "$folder/$lock.lock"; done | sort -u >"$wanted"
# What has no wheel comes as its sources (rouge-score): the build makes it with what build.lock names.
# shellcheck disable=SC2086  # PIP may be several words
${PIP:-python3 -m pip} download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --dest "$folder/wheelhouse" --requirement "$wanted"
