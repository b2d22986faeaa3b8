"""The whole story of one query's labels, for a person: what was asked in which order, what came back, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.annotate.quality.gold import Gold
from components.annotate.quality.report import ANNOTATIONS_NAME, QUARANTINE_NAME, RECHECK_NAME
from components.shared.calls.journalled import is_completed
from components.shared.dataset import Dataset
from components.shared.durable.journal import read_journal
from components.shared.manifest import open_artifact
from components.shared.records import Annotation, Exchange, Pool, Quarantined, read_records

Traced = Annotation | Quarantined
_SHOWN_CHARACTERS = 100


def trace(
    query_id: str,
    *,
    annotations_uris: Sequence[str],
    dataset: Dataset,
    pools_uri: str,
    journal_uri: str,
    golds: Sequence[Gold] = (),
) -> str:
    """The story as lines of text.

    Args:
        query_id: Whose labels.
        annotations_uris: The artifact, or one a shard.
        dataset: Texts of the query and the passages.
        pools_uri: Where each passage came from.
        journal_uri: Raw results of the calls.
        golds: What people say of the passages.

    Raises:
        ValueError: Where the annotations do not hold the query.
    """
    folders = [open_artifact(uri) for uri in annotations_uris]
    record = next(_find(query_id, folders), None)
    if record is None:
        raise ValueError(
            f"{', '.join(annotations_uris)}: no labels of query {query_id!r}; "
            "check the id in queries.jsonl, and that mine drew the query (mine.num_queries)"
        )
    again = next((annotation for folder in folders for annotation in _recheck(folder, query_id)), None)
    wanted = {key for exchange in (*record.exchanges, *(again.exchanges if again else ())) for key in exchange.calls}
    calls: dict[str, Mapping[str, Any]] = {}
    for key, value in read_journal(journal_uri):
        # A call that failed in an earlier version may have been made again.
        if key in wanted and (key not in calls or is_completed(value)):
            calls[key] = value
    pools = read_records(open_artifact(pools_uri) / "pools.jsonl", Pool)
    pool = next((pool for pool in pools if pool.query_id == query_id), None)
    parts = [
        _head(record, dataset),
        *(_exchange(number, exchange, record, calls) for number, exchange in enumerate(record.exchanges, start=1)),
        _labels(record, dataset, pool, golds) if isinstance(record, Annotation) else _why_not(record),
    ]
    if again:
        parts.append(_again(record, again))
    return "\n\n".join(parts)


def _find(query_id: str, folders: Iterable[Path]) -> Iterator[Traced]:
    for folder in folders:
        annotations = read_records(folder / ANNOTATIONS_NAME, Annotation)
        quarantined = read_records(folder / QUARANTINE_NAME, Quarantined)
        yield from (record for record in annotations if record.query_id == query_id)
        yield from (record for record in quarantined if record.query_id == query_id)


def _recheck(folder: Path, query_id: str) -> Iterator[Annotation]:
    path = folder / RECHECK_NAME
    annotations = read_records(path, Annotation) if path.exists() else iter(())
    return (annotation for annotation in annotations if annotation.query_id == query_id)


def _head(record: Traced, dataset: Dataset) -> str:
    query = dataset.query(record.query_id)
    lines = [f"query {query.query_id}: {query.text}"]
    lines += [f"answers: {' | '.join(query.answers)}"] if query.answers else []
    lines += [
        f"method:  {record.method}, outcome {record.outcome}",
        f"model:   {record.model}",
        f"pool:    {len(record.passage_ids)} passages, shuffled with seed {record.pool_seed}",
        f"cost:    {record.prompt_tokens} prompt tokens ({record.cached_tokens} cached), "
        f"{record.completion_tokens} completion tokens, {record.engine_seconds:.2f} engine seconds"
        + (f", and the unknown tokens of {record.uncounted_calls} calls" if record.uncounted_calls else ""),
    ]
    return "\n".join(lines)


def _exchange(number: int, exchange: Exchange, record: Traced, calls: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"{number}. {exchange.template} ({exchange.template_version}), rung {exchange.rung}: {exchange.outcome}",
        f"   shown:  {_places(exchange.positions)}",
    ]
    if exchange.chosen:
        lines.append(f"   chosen: {_places(exchange.chosen)}")
    results = [(key, calls.get(key)) for key in exchange.calls]
    if exchange.template.endswith("_likelihood"):
        shown = zip(exchange.positions, results, strict=True)
        lines += [_likelihood(place, record.passage_ids[place], key, value) for place, (key, value) in shown]
    else:
        lines += [line for key, value in results for line in _completion(key, value)]
    return "\n".join(lines)


def _places(places: Sequence[int]) -> str:
    return " ".join(str(place) for place in places)


def _likelihood(place: int, passage_id: str, key: str, value: Mapping[str, Any] | None) -> str:
    if value is None:
        return f"   place {place} ({passage_id}): call {key} is not in this journal"
    logprobs = value["logprobs"]
    mean = sum(logprobs) / len(logprobs)
    weighed = f"{mean:.4f} nats a token over {len(logprobs)} tokens"
    return f"   place {place} ({passage_id}): {weighed}, {_cost(value)}, call {key}"


def _completion(key: str, value: Mapping[str, Any] | None) -> list[str]:
    if value is None:
        return [f"   call {key} is not in this journal"]
    quoted = [f"   | {line}" for line in value["text"].splitlines() or [""]]
    return [f"   call {key}: {_cost(value)}, finish reason {value['finish_reason']}", *quoted]


def _cost(value: Mapping[str, Any]) -> str:
    written = f" + {value['completion_tokens']}" if "completion_tokens" in value else ""
    written += "" if value.get("is_counted", True) else " or more"
    return (
        f"{value['prompt_tokens']}{written} tokens ({value['cached_tokens']} cached), {value['engine_seconds']:.3f} s"
    )


def _labels(record: Annotation, dataset: Dataset, pool: Pool | None, golds: Sequence[Gold]) -> str:
    sources = dict(zip(pool.passage_ids, pool.sources, strict=True)) if pool else {}
    lines = ["labels:"]
    for place, (passage_id, label) in enumerate(zip(record.passage_ids, record.labels, strict=True)):
        people = [
            f"{gold.name}: {_said(gold, record.query_id, passage_id)}"
            for gold in golds
            if record.query_id in gold.judgements
        ]
        score = f"  {record.scores[place]:8.4f}" if record.scores else ""
        share = f"  {record.distribution[place]:6.1%}" if record.distribution else ""
        facts = ", ".join([sources.get(passage_id, "source unknown"), *people])
        lines.append(f"  {place:>3}  {label:<8}{score}{share}  {passage_id}  [{facts}]")
        lines.append(f"       {_cut(dataset.passage(passage_id).full_text)}")
    return "\n".join(lines)


def _said(gold: Gold, query_id: str, passage_id: str) -> str:
    judged = gold.judgements[query_id].get(passage_id)
    return "not judged" if judged is None else "useful" if judged > 0 else "not useful"


def _why_not(record: Quarantined) -> str:
    quoted = "\n".join(f"   | {line}" for line in record.completion.splitlines() or [""])
    return f"no labels: {record.outcome} ({record.detail}) on the last rung; its completion:\n{quoted}"


def _again(record: Traced, again: Annotation) -> str:
    theirs = dict(zip(again.passage_ids, again.labels, strict=True))
    if not isinstance(record, Annotation):
        return "judged again in another order: it got labels then"
    changed = [
        f"{passage_id}: {label} -> {theirs[passage_id]}"
        for passage_id, label in zip(record.passage_ids, record.labels, strict=True)
        if theirs[passage_id] != label
    ]
    return "judged again in another order: " + (", ".join(changed) or "the same labels")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 4].rsplit(" ", 1)[0] + " ..."
