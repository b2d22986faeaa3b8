"""The two prompt layouts with vLLM itself: prefix cache, agreement of the labels, what the ladder recovers.

    .venv-vllm/bin/python tests/benchmarks/bench_annotate_layouts.py [--queries 8] [--passages 4] [--data squad-mini]

Needs the environment of tests/vllm_env.sh and real collections (RETRIEVER_DATA); says so and ends well where one is
missing.
"""

import argparse
import importlib.util
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from components.annotate import job
from components.annotate.job import annotate
from components.annotate.quality.agreement import jaccard
from components.shared.durable.journal import read_journal
from components.shared.engines.engine import Engine
from components.shared.engines.opening import open_engine
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, Exchange, Passage, Pool, Qrel, Quarantined, Query, read_records
from tests.components.annotate.inputs import job_config, write_dataset, write_pools

_LABELS = ("positive", "ignore", "negative")


class _Kept:
    """One engine for both layouts."""

    def __init__(self, engine: Engine) -> None:
        self.model, self.can_constrain = engine.model, engine.can_constrain
        self.submit, self.collect = engine.submit, engine.collect

    def close(self) -> None:
        pass


def write_real_inputs(data: Path, folder: Path, *, num_queries: int, num_passages: int) -> None:
    """Pools of the human positive and its neighbours in the collection, which are about the same topic."""
    rows = [orjson.loads(line) for line in (data / "corpus.jsonl").read_bytes().splitlines()]
    passages = [Passage(row["_id"], row.get("title", ""), row["text"]) for row in rows]
    places = {passage.passage_id: place for place, passage in enumerate(passages)}
    texts = {row["_id"]: row["text"] for row in map(orjson.loads, (data / "queries.jsonl").read_bytes().splitlines())}
    pools, queries, qrels = [], [], []
    for line in (data / "qrels" / "train.tsv").read_text().splitlines()[1 : 1 + num_queries]:
        query_id, passage_id, grade = line.split("\t")
        first = max(0, min(places[passage_id] - len(pools) % num_passages, len(passages) - num_passages))
        shown = tuple(passage.passage_id for passage in passages[first : first + num_passages])
        queries.append((Query(query_id, texts[query_id]), "train"))
        qrels.append((Qrel(query_id, passage_id, int(grade)), "train"))
        pools.append(Pool(query_id, shown, ("corpus",) * num_passages, 0))
    write_dataset(folder / "dataset", passages, queries, qrels)
    write_pools(folder / "pools", pools)


def measure(folder: Path, layout: str, **settings: Any) -> dict[str, Annotation]:
    """Annotates with one layout; prints its cache hits, outcomes and costs."""
    annotate(job_config(folder, layout, layout=layout, **settings))
    records = [record for _, record in read_journal(str(folder / f"{layout}.journal"))]
    for template in ("relevance_selection", "answer", "utility_selection"):
        its = [record for record in records if record["template"] == template]
        prompt, cached = (sum(record[name] for record in its) for name in ("prompt_tokens", "cached_tokens"))
        print(
            f"{layout:7} {template:20} {len(its):4} calls, {prompt:7} prompt tokens, {cached / max(1, prompt):6.1%} "
            "from the prefix cache"
        )
    labelled = list(read_records(folder / layout / "annotations.jsonl", Annotation))
    quarantined = list(read_records(folder / layout / "quarantine.jsonl", Quarantined))
    _print_outcomes([exchange for each in (*labelled, *quarantined) for exchange in each.exchanges])
    metrics = read_manifest(str(folder / layout)).metrics
    print(
        f"{layout:7} queries labelled {len(labelled)}, in quarantine {len(quarantined)}; {metrics['engine_seconds']} "
        "engine seconds"
    )
    return {annotation.query_id: annotation for annotation in labelled}


def _print_outcomes(exchanges: list[Exchange]) -> None:
    counted = Counter((its.template, its.rung, its.outcome) for its in exchanges)
    asked = Counter((its.template, its.rung) for its in exchanges)
    for (template, rung, outcome), count in sorted(counted.items()):
        print(f"        {template:20} {rung:15} {outcome:13} {count:4}  {count / asked[template, rung]:6.1%}")


def _kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's kappa of three-way labels."""
    observed = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    ours, theirs = Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)
    expected = sum(ours[label] * theirs[label] for label in _LABELS) / len(pairs) ** 2
    return (observed - expected) / (1 - expected) if expected < 1 else 1.0


def main() -> None:
    """Prints both layouts and how far they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--data", default="squad-mini")
    arguments = parser.parse_args()
    data = Path(os.environ.get("RETRIEVER_DATA", "../shared/data")) / arguments.data
    if importlib.util.find_spec("vllm") is None or not data.is_dir():
        print(
            "not measured: needs vLLM (tests/vllm_env.sh makes an environment that has it) and real collections "
            "(RETRIEVER_DATA)"
        )
        return
    from pipelines.packaged import find_llm

    llm_uri = str(find_llm())
    engine = _Kept(open_engine("vllm", llm_uri=llm_uri, seed=1))
    job.open_engine_of = lambda *_, **__: engine  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_real_inputs(data, folder, num_queries=arguments.queries, num_passages=arguments.passages)
        paper, cached = (
            measure(folder, layout, llm_uri=llm_uri, passage_words=50, answer_tokens=32)
            for layout in ("paper", "cached")
        )
    both = sorted(paper.keys() & cached.keys())
    pairs = [pair for query_id in both for pair in zip(paper[query_id].labels, cached[query_id].labels, strict=True)]
    overlap = [
        jaccard(paper[query_id].with_label("positive"), cached[query_id].with_label("positive")) for query_id in both
    ]
    print(
        f"the layouts agree on {len(both)} queries: kappa {_kappa(pairs):.2f}, Jaccard of positives "
        f"{sum(overlap) / len(overlap):.2f}"
    )


if __name__ == "__main__":
    main()
