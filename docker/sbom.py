"""Writes what an image holds as a CycloneDX document: `sbom.py LOCK >sbom.cdx.json`, by the image's own Python.

The Python packages are those that this Python really finds, each with the sha256 that its lock has of the file it came
from; what the lock does not name has none. Debian's packages are those of dpkg. No date and no number of its own, so
that one image has one document.
"""

import json
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

_DPKG = Path("/var/lib/dpkg/status")
_LINE = re.compile(r"(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})")
# A field that was meant for a name often holds the whole text.
_LONGEST_NAME = 80


def document(lock: Path, dpkg: Path = _DPKG) -> dict[str, Any]:
    """The document. Source: CycloneDX 1.6, JSON."""
    hashes = {(name, version): sha256 for name, version, sha256 in _LINE.findall(lock.read_text())}
    python = {"type": "platform", "name": "python", "version": platform.python_version()}
    packages = (_package(distribution, hashes) for distribution in distributions())
    components = [python, *sorted(packages, key=lambda one: str(one["purl"])), *_debian(dpkg)]
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}


def _package(distribution: Distribution, hashes: dict[tuple[str, str], str]) -> dict[str, Any]:
    name, version = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(), distribution.version
    # A local part says how it was built, and stands in no lock.
    sha256 = hashes.get((name, version))
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "licenses": list(_licences(distribution)),
        **({"hashes": [{"alg": "SHA-256", "content": sha256}]} if sha256 else {}),
    }


def _licences(distribution: Distribution) -> Iterator[dict[str, Any]]:
    """The licence as its author wrote it: an expression, else classifiers, else the first line of the old field."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        yield {"expression": expression}
        return
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")
    ]
    written = (metadata.get("License") or "").strip().splitlines()
    for name in classified or [line.strip() for line in written[:1] if len(line) <= _LONGEST_NAME]:
        yield {"license": {"name": name}}


def _debian(dpkg: Path) -> Iterator[dict[str, Any]]:
    if not dpkg.exists():
        return
    for entry in dpkg.read_text("utf-8").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        if fields["Status"].endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = (
                f"pkg:deb/debian/{name}@{version.replace(':', '%3A').replace('+', '%2B')}?arch={fields['Architecture']}"
            )
            yield {"type": "library", "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    json.dump(document(Path(sys.argv[1])), sys.stdout, indent=1)
