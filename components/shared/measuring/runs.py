"""The runs of an evaluation, and TREC files that are named by their address."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from components.shared.durable import storage
from components.shared.manifest import open_artifact, read_manifest
from components.shared.roles import hint

_SUFFIX = ".trec"
# Folder of an evaluation that holds its runs.
_FOLDER = "runs"


def find_runs(
    *, dataset_uri: str, evaluation_uri: str, runs_uri: str, systems: str = "", reserved: Collection[str] = ()
) -> dict[str, Path]:
    """Name -> file of the runs of an evaluation, and of the files whose addresses are named; each empty for none.

    Args:
        dataset_uri: The dataset whose queries they must answer.
        evaluation_uri: An evaluation.
        runs_uri: Addresses of TREC files, separated by commas; a run is called as its file is.
        systems: Names of those that are wanted, separated by commas, in this order; empty: all.
        reserved: Names that no run may have.

    Raises:
        ValueError: Where the evaluation is of another dataset, two runs have one name, or a wanted one is missing.
    """
    files: dict[str, Path] = {}
    for name, path in (*_of_evaluation(evaluation_uri, dataset_uri), *_of_addresses(runs_uri)):
        if name in files or name in reserved:
            raise ValueError(f"{path}: a system is called {name} already; rename the file")
        files[name] = path
    if not systems:
        return files
    named = [name.strip() for name in systems.split(",")]
    if unknown := [name for name in named if name not in files]:
        raise ValueError(
            f"systems {systems!r}: no run is called {', '.join(unknown)}; there are {', '.join(files) or 'none'}"
        )
    return {name: files[name] for name in named}


def _of_evaluation(evaluation_uri: str, dataset_uri: str) -> Iterator[tuple[str, Path]]:
    if not evaluation_uri:
        return
    made_of = read_manifest(evaluation_uri).inputs.get("dataset", "")
    digest = read_manifest(dataset_uri).digest
    if made_of and digest not in made_of.split(","):
        raise ValueError(
            f"{evaluation_uri}: its runs are of dataset {made_of[:12]}, asked to read them for {digest[:12]} "
            f"({dataset_uri}); name the dataset that was evaluated"
        )
    folder = open_artifact(evaluation_uri) / _FOLDER
    for path in sorted(folder.rglob(f"*{_SUFFIX}")):
        yield str(path.relative_to(folder)).removesuffix(_SUFFIX), path


def _of_addresses(runs_uri: str) -> Iterator[tuple[str, Path]]:
    for uri in filter(None, (part.strip() for part in runs_uri.split(","))):
        path = storage.fetch(uri)
        if not path.is_file():
            raise ValueError(f"{uri}: is no file; name TREC run files ({hint('runs_uri', 'bm25.trec,trained.trec')})")
        yield uri.rstrip("/").rsplit("/", 1)[-1].removesuffix(_SUFFIX), path
