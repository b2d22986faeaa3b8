#!/bin/sh
# Makes a base image from Debian packages where no container registry can be reached: offline_base.sh [NAME]
# About 75 s; needs mmdebstrap and a running docker daemon (DOCKER_HOST). Python 3.11 is bookworm's own, the version the
# public base has. Use it with `docker build --build-arg BASE_IMAGE=retriever-base:bookworm`.
set -eu

name=${1:-retriever-base:bookworm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Full python3: python3-minimal lacks modules that wheels import. Documentation and locales are never read in a container.
mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$folder/base.tar"
docker import "$folder/base.tar" "$name"
