"""A cache of the hub on this disk, with models in the hub's own layout, and no network."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub.constants
import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class HubCache:
    """The cache folder, and a way to put a model there."""

    folder: Path

    def add(self, name: str, source: Path, revision: str = REVISION, ref: str = "main") -> Path:
        """Copies a model folder into the cache, as a revision that `ref` names; returns the snapshot."""
        repository = self.folder / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / revision
        shutil.copytree(source, snapshot)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(revision)
        return snapshot


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    """An empty cache that huggingface_hub reads for the time of a test."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return HubCache(folder)
