"""What `retriever promote`, `releases` and `rollback` do with a store of releases, on this machine or in a bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from components.promote import releases as store_of_releases
from components.promote.config import PromoteConfig
from components.promote.releases import ReleaseRecord, history, read_served, serve_next, stored, to_restore
from components.shared import log
from components.shared.contract.pointer import POINTER_NAME
from components.shared.durable import storage
from components.shared.launch import EXIT_OK
from pipelines.local import LocalStep, run_steps
from pipelines.operate.runs import columns
from pipelines.suites.command import EXIT_GATE

_SHOWN_METRICS = ("trained_ndcg_10", "hybrid_trained_ndcg_10")
_HOUR_SECONDS = 3600.0


def promote(store: str, workdir: Path = Path(".retriever/run")) -> int:
    """Makes what a finished run made the release that servers follow, where its gate is open.

    Args:
        store: Folder of all releases, local or in a bucket, such as s3://bucket/retrievers-of-my-corpus.
        workdir: Work folder of the run.
    """
    step = _promotion(workdir, store)
    run_steps([step])
    values: dict[str, Any] = orjson.loads((Path(step.config.output_uri) / "release.json").read_bytes())
    if "release" not in values:
        print("the gate is closed, so nothing was promoted: " + "; ".join(values["reasons"]))
        return EXIT_GATE
    if (served := read_served(store).record) is None or served.digest != values["digest"]:
        # The step was done before, and is not done again.
        print(
            f"release {values['release']} was promoted earlier and another one is served since; to serve it again: "
            f"retriever rollback --store {store} --to {values['release']}"
        )
        return EXIT_GATE
    print(f"release {values['release']} ({values['digest']}) is served; serve:  --pointer-uri {store}/{POINTER_NAME}")
    return EXIT_OK


def releases(
    store: str,
    remove: bool = False,
    keep: int = 3,
    grace_hours: float = 24.0,
    drop_collections: bool = False,
    milvus_uri: str = "",
) -> int:
    """Lists the releases of a store and what lies there that nobody points to; removes that with --remove.

    Args:
        store: Folder of all releases, local or in a bucket.
        remove: Remove the retrievers that nobody needs; otherwise they are only listed.
        keep: Releases of the history that stay, to roll back to; the one that is served is always kept.
        grace_hours: A retriever stays so long after another one took its place, because a server may still be loading
            it, and one that never was a release so long after its newest file, because it may be on its way.
        drop_collections: Drop the collections in Milvus that no retriever of this store names; otherwise they are only
            listed. Not where another store, or a run that goes on, has its collections on the same server.
        milvus_uri: Look at the collections of this server too, besides those that the retrievers name.
    """
    if keep < 1 or grace_hours < 0:
        raise ValueError(f"--keep {keep}, --grace-hours {grace_hours}: keep at least 1, and no negative time")
    print(release_table(history(store)))
    # Here: they need FAISS, which other commands do not.
    from components.shared.index import place_of
    from pipelines.commands.collections import named_places, orphans

    servers = {place.uri for place in named_places(store)} | ({place_of(milvus_uri)} if milvus_uri else set())
    lines = list(_clean(store, keep=keep, grace_hours=grace_hours, doit=remove))
    # Behind the removal: what only a removed retriever named is named no more.
    lines += orphans(servers, named_places(store), drop=drop_collections)
    print("\n" + "\n".join(lines) if lines else "")
    return EXIT_OK


def rollback(store: str, to: int = 0) -> int:
    """Serves an earlier release again; servers follow as they follow a promotion.

    Args:
        store: Folder of all releases, local or in a bucket.
        to: Number of the release; 0 is the last one before with other content, and again goes one further back.
    """
    record = roll_back(store, to)
    print(f"release {record.release} serves what release {record.restored} was, in the place of {record.before}")
    return EXIT_OK


def _promotion(workdir: Path, store: str) -> LocalStep:
    """The step that promotes what lies in the work folder of a finished run.

    Raises:
        ValueError: Where the run is not finished.
    """
    if not (workdir / "evaluation" / "manifest.json").exists():
        raise ValueError(f"{workdir}: no evaluation here; run `retriever run --workdir {workdir}` first")
    asked = workdir / "asked"
    config = PromoteConfig(
        dataset_uri=str(asked if asked.exists() else workdir / "dataset"),
        encoder_uri=str(workdir / "encoder"),
        index_uri=str(workdir / "index"),
        evaluation_uri=str(workdir / "evaluation"),
        checkpoint_uri=str(workdir / "checkpoint"),
        output_uri=str(workdir / "release"),
        store=store,
    )
    return LocalStep("promote", "components.promote", config)


def roll_back(store: str, number: int = 0) -> ReleaseRecord:
    """Serves an earlier release again: this number, or the last one with other content; the new record of history.

    Raises:
        ValueError: Where there is none, its artifacts or its collection were removed, or another release was promoted
            meanwhile.
    """
    served = read_served(store)
    restored = to_restore(history(store), number)
    from pipelines.commands.collections import check_restorable

    check_restorable(restored.index_uri, restored.release)
    chosen = replace(restored, action="rollback", restored=restored.release)
    record = serve_next(store, served, chosen)
    log.event("rolled back", release=record.release, restored=restored.release, instead_of=record.before)
    return record


def is_served(store: str, collection_uri: str) -> ReleaseRecord | None:
    """What is served, where it was made of this very collection; None where it was not, or nothing is served."""
    served = read_served(store).record
    if served is None or not served.collection or storage.content_digest(collection_uri) != served.collection:
        return None
    return served


def release_table(records: Sequence[ReleaseRecord]) -> str:
    """One line a release, the newest first; the first one is what is served."""
    if not records:
        return "nothing was ever promoted there"
    rows = [("", "release", "made", "action", "digest", "nDCG@10", "from")]
    for position, record in enumerate(records):
        made = datetime.fromtimestamp(record.time, UTC).strftime("%Y-%m-%d %H:%M:%S") if record.time else ""
        action = f"rollback to {record.restored}" if record.restored else record.action
        quality = next((f"{record.metrics[name]:.3f}" for name in _SHOWN_METRICS if name in record.metrics), "")
        mark = "served" if position == 0 else ""
        rows.append((mark, str(record.release), made, action, record.digest, quality, record.evaluation))
    return columns(rows)


def _clean(store: str, *, keep: int, grace_hours: float, doit: bool) -> Iterator[str]:
    """A line for every retriever in the store; those that nobody needs are removed where `doit` is set."""
    for retriever in stored(store, keep=keep, grace_seconds=grace_hours * _HOUR_SECONDS, now=time.time()):
        numbers = f"releases {', '.join(map(str, retriever.releases))}" if retriever.releases else "no release"
        size = f"{retriever.num_bytes / 1e6:,.1f} MB"
        if retriever.kept:
            yield f"{retriever.digest}  {size}  {numbers}: kept, {retriever.kept}"
            continue
        if doit:
            store_of_releases.remove(store, retriever.digest)
            log.event("removed", digest=retriever.digest, bytes=retriever.num_bytes)
        yield f"{retriever.digest}  {size}  {numbers}: {'removed' if doit else 'nobody points to it; --remove'}"
