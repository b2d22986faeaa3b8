"""Folders of documents for tests, and what prepare makes of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.dataset import Dataset, Provenance
from components.shared.manifest import Manifest, read_manifest
from components.shared.records import Passage

Files = dict[str, str | bytes]


@dataclass(frozen=True)
class Prepared:
    """A dataset that was made, and its manifest."""

    dataset: Dataset
    manifest: Manifest
    folder: Path

    @property
    def passages(self) -> list[tuple[Passage, Provenance]]:
        rows = range(self.dataset.num_passages)
        pairs = [(self.dataset.passage_at(row), self.dataset.provenance_at(row)) for row in rows]
        return [(passage, provenance) for passage, provenance in pairs if provenance is not None]

    @property
    def texts(self) -> list[str]:
        return [passage.text for passage, _ in self.passages]

    @property
    def left_out(self) -> dict[str, str]:
        lines = (self.folder / "logs" / "left_out.tsv").read_text().splitlines()
        return dict(line.split("\t") for line in lines)


def write(folder: Path, files: Files) -> Path:
    """Writes files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def prepared(tmp_path: Path, files: Files, **settings: Any) -> Prepared:
    """Writes the files into `docs` and prepares them into `dataset`, in this process."""
    docs, output = write(tmp_path / "docs", files), tmp_path / "dataset"
    prepare(PrepareConfig(collection_uri=str(docs), output_uri=str(output), **{"processes": 1, **settings}))
    return Prepared(Dataset(output), read_manifest(str(output)), output)
