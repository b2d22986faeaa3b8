"""The list of what an image holds, made of an environment and a lock."""

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = Path(__file__).parents[1] / "docker" / "sbom.py"
_DPKG = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: a library
 Version: 9 of this text is no field

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("sbom", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    version = metadata.version("numpy")
    (tmp_path / "image.lock").write_text(
        f"numpy=={version} --hash=sha256:{'a' * 64}\ntqdm==0 --hash=sha256:{'b' * 64}\n"
    )
    (tmp_path / "status").write_text(_DPKG)
    made: dict[str, Any] = module.document(tmp_path / "image.lock", tmp_path / "status")
    return made


def test_every_distribution_is_listed_with_version_licence_and_the_hash_of_its_lock(document: dict[str, Any]) -> None:
    listed = {entry["name"]: entry for entry in document["components"]}
    numpy = listed["numpy"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{metadata.version('numpy')}"
    assert numpy["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert "BSD-3-Clause" in numpy["licenses"][0]["expression"]
    # Another version than the lock's is not the file that the hash is of.
    assert "hashes" not in listed["tqdm"]
    # Classifiers, where there is no expression.
    assert listed["kfp"]["licenses"] == [{"license": {"name": "Apache Software License"}}]


def test_debians_packages_are_those_that_are_installed(document: dict[str, Any]) -> None:
    debian = [entry for entry in document["components"] if entry.get("purl", "").startswith("pkg:deb/")]
    assert [entry["purl"] for entry in debian] == ["pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64"]
