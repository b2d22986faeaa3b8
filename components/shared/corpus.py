"""The corpus of a dataset: the same in every dataset of the same passages, whatever is asked of them.

So an index that was built before an LLM wrote queries serves the dataset that has them.
"""

from __future__ import annotations

from components.shared.dataset import OF_QUERIES
from components.shared.hashing import lines_digest
from components.shared.manifest import LOGS, Manifest, read_manifest

CORPUS = "corpus"
"""Name of the metric under which an index keeps the digest of the corpus that it was built over."""


def corpus_files(dataset: Manifest) -> list[str]:
    """Names of the files of a dataset that are its corpus, what was built of the passages included."""
    return [name for name in sorted(dataset.files) if name not in OF_QUERIES and not name.startswith(LOGS)]


def corpus_digest(dataset: Manifest) -> str:
    """Digest of the corpus of a dataset's artifact."""
    return lines_digest(f"{name} {dataset.files[name]['sha256']}" for name in corpus_files(dataset))


def check_corpus(index_uri: str, dataset_uri: str) -> None:
    """Refuses an index over another corpus than the dataset's.

    Raises:
        ValueError: Naming both, and what to do.
    """
    index, dataset = read_manifest(index_uri), read_manifest(dataset_uri)
    # Indexes of earlier versions know the digest of the whole dataset only.
    indexed, wanted = index.metrics.get(CORPUS), corpus_digest(dataset)
    if indexed is None:
        indexed, wanted = index.inputs.get("dataset", ""), dataset.digest
    if indexed != wanted:
        raise ValueError(
            f"{index_uri}: made over dataset {indexed[:12] or 'unknown'}, asked to search dataset {wanted[:12]} "
            f"({dataset_uri}); name the dataset that was indexed, or build the index again"
        )
