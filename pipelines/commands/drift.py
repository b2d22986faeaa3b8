"""What `retriever drift` does: the report on the sampled queries of a store's release, or of a work folder's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from components.shared.contract.pointer import POINTER_NAME
from components.shared.launch import EXIT_OK
from pipelines.local import LocalStep, run_steps
from pipelines.operate.runs import columns
from pipelines.suites.command import EXIT_GATE


def drift(sample: str, store: str = "", workdir: Path = Path(".retriever/run"), output: Path | None = None) -> int:
    """Compares sampled queries with those of the release that answered them; ends with 1 where retraining is due.

    Args:
        sample: Folder of sampled queries, local or in a bucket: what serve was given as --sample-uri.
        store: Folder of all releases; what is served there is compared with. Empty: the run of the work folder is.
        workdir: Work folder of a finished run.
        output: Folder for report.html and drift.json; without it the folder drift of the work folder.
    """
    folder = output or workdir / "drift"
    run_steps([LocalStep("drift", "components.evaluate.drift", _config(sample, store, workdir, folder))])
    values: dict[str, Any] = orjson.loads((folder / "drift.json").read_bytes())
    print(f"{table(values)}\n\n{values['verdict']}; report: {(folder / 'report.html').resolve()}")
    return EXIT_GATE if values["verdict"] == "drift" else EXIT_OK


def table(values: dict[str, Any]) -> str:
    """One line a property, for the terminal."""
    rows = [("", "release's own", "sampled", "difference", "p", "")]
    for row in values["comparisons"]:
        difference = f"{row['sampled'] - row['own']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        mark = "drift" if row["is_drift"] else ""
        rows.append(
            (row["name"], f"{row['own']:.3f}", f"{row['sampled']:.3f}", difference, f"{row['p_value']:.2g}", mark)
        )
    return columns(rows)


def _config(sample: str, store: str, workdir: Path, folder: Path) -> Any:  # noqa: ANN401 any config dataclass
    from components.evaluate.drift.config import DriftConfig
    from pipelines.commands.labels import dataset_folder

    if store:
        return DriftConfig(pointer_uri=f"{store.rstrip('/')}/{POINTER_NAME}", sample_uri=sample, output_uri=str(folder))
    return DriftConfig(
        encoder_uri=str(workdir / "encoder"),
        index_uri=str(workdir / "index"),
        dataset_uri=str(dataset_folder(workdir)),
        sample_uri=sample,
        output_uri=str(folder),
    )
