"""An LLM test collection from end to end: pools of runs, judged, merged, and its ranking beside people's."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from scipy import stats

from components.annotate import job as annotate_job
from components.annotate.config import AnnotateConfig
from components.collect.agreement import HUMAN, compare_rankings, merge, passage_agreement, per_query
from components.collect.config import CollectConfig
from components.collect.job import collect
from components.shared.engines.engine import CompletionRequest
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.records import Annotation, Pool, Qrel, read_records, write_records
from tests.components.annotate.fake_engine import FakeEngine
from tests.components.answer.inputs import queries, write_run
from tests.components.ask.inputs import passages, write_dataset

NUM_QUERIES = 12


def write_inputs(folder: Path) -> None:
    """Twelve queries whose passage is first in one run, third in another, and nowhere in the last one."""
    asked = [(query, "test") for query in queries(NUM_QUERIES)]
    qrels = [(Qrel(f"q{number}", f"p{number}", 1), "test") for number in range(NUM_QUERIES)]
    write_dataset(folder / "dataset", passages(100), asked, qrels)
    for name, place in (("first", 0), ("third", 2), ("never", None)):
        run = {}
        for number in range(NUM_QUERIES):
            ranking = [f"p{50 + number}", f"p{70 + number}", f"p{30 + number}"]
            run[f"q{number}"] = ranking if place is None else [*ranking[:place], f"p{number}", *ranking[place:]]
        write_run(folder / f"{name}.trec", run)


def config(folder: Path, output: str = "pools", **settings: object) -> CollectConfig:
    runs = ",".join(str(folder / f"{name}.trec") for name in ("first", "third", "never"))
    given = {
        "dataset_uri": str(folder / "dataset"),
        "output_uri": str(folder / output),
        "runs_uri": runs,
        "num_queries": NUM_QUERIES,
        "num_resamples": 200,
        **settings,
    }
    return CollectConfig(**given)  # type: ignore[arg-type]


def judge(folder: Path, output: str, reply: Any) -> None:
    """annotate over the pools, with an LLM that is told what to select."""
    engine = FakeEngine(replies=reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotate_job, "open_engine_of", lambda *_, **__: engine)
        annotate_job.annotate(
            AnnotateConfig(
                dataset_uri=str(folder / "dataset"),
                pools_uri=str(folder / "pools"),
                output_uri=str(folder / output),
                llm_uri="fake",
                recheck_share=0.0,
                method="utility_selection",
            )
        )


def right(request: CompletionRequest) -> str:
    """Selects the passage that answers: passage i is of the year 1800 + i, and query i asks for number i."""
    number = next(word for word in request.turns[-1].content.split() if word.isdigit())
    shown = [turn.content for turn in request.turns if "<passage>" in turn.content]
    if "three sentences" in request.turns[-1].content:
        return f"in {1800 + int(number)}"
    places = [place for place, text in enumerate(shown, start=1) if f"in {1800 + int(number)} " in text]
    return ", ".join(f"[{place}]" for place in places) or "None"


def metrics_of(folder: Path, output: str) -> dict[str, Any]:
    metrics: dict[str, Any] = orjson.loads((folder / output / "metrics.json").read_bytes())
    return metrics


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collected")
    write_inputs(folder)
    collect(config(folder))
    judge(folder, "judgements", right)
    made = config(folder, "collection", product="collection", judgements_uri=str(folder / "judgements"))
    collect(made)
    return folder


def test_a_pool_is_the_union_of_the_first_passages_and_of_peoples_positives(collected: Path) -> None:
    pools = {pool.query_id: pool for pool in read_records(collected / "pools" / "pools.jsonl", Pool)}
    assert len(pools) == NUM_QUERIES
    pool = pools["q4"]
    assert set(pool.passage_ids) == {"p4", "p54", "p74", "p34"}
    sources = dict(zip(pool.passage_ids, pool.sources, strict=True))
    assert sources == {
        "p4": "first+third+human",
        "p54": "first+third+never",
        "p74": "first+third+never",
        "p34": "first+third+never",
    }
    # The order shown says nothing of the rankings.
    assert len({pool.passage_ids.index(f"p{query_id[1:]}") for query_id, pool in pools.items()}) > 1


def test_a_shallower_pool_judges_less_and_keeps_peoples_positives(collected: Path) -> None:
    collect(config(collected, "shallow", pool_depth=1, num_queries=5))
    pools = list(read_records(collected / "shallow" / "pools.jsonl", Pool))
    assert [len(pool.passage_ids) for pool in pools] == [2] * 5
    assert all(f"p{pool.query_id[1:]}" in pool.passage_ids for pool in pools)


def test_a_judge_that_agrees_with_people_ranks_systems_as_they_do(collected: Path) -> None:
    metrics = metrics_of(collected, "collection")
    assert {tau["against"]: tau["tau"] for tau in metrics["taus"]} == {"llm": 1.0, "merged": 1.0}
    for row in metrics["systems"].values():
        # nDCG of the one relevant passage at ranks 1 and 3, and of none.
        assert [of["mean"] for of in row.values()] == pytest.approx([1.0, 0.5, 0.0])
    assert metrics["agreement"] == {
        "num_judged_by_both": 12,
        "num_relevant_to_people": 12,
        "num_useful_to_llm": 12,
        "num_both": 12,
    }
    assert read_manifest(str(collected / "collection")).metrics["tau_llm"] == 1.0


def test_the_collection_can_be_read_by_prepare_and_by_any_evaluator(collected: Path) -> None:
    rows = (collected / "collection" / "qrels" / "test.tsv").read_text().splitlines()
    assert rows[0] == "query-id\tcorpus-id\tscore"
    assert "q4\tp4\t1" in rows
    assert "q4\tp54\t0" in rows
    assert "q4 0 p4 1" in (collected / "collection" / "qrels-llm.trec").read_text().splitlines()


def test_a_judge_that_prefers_what_people_do_not_turns_the_ranking(collected: Path, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    collect(config(tmp_path))

    def wrong(request: CompletionRequest) -> str:
        shown = [turn.content for turn in request.turns if "<passage>" in turn.content]
        if "three sentences" in request.turns[-1].content:
            return "nothing"
        # The passages from number 50 on, which `never` has before all others.
        return ", ".join(f"[{place}]" for place, text in enumerate(shown, start=1) if "in 185" in text) or "[1]"

    judge(tmp_path, "judgements", wrong)
    collect(config(tmp_path, "collection", product="collection", judgements_uri=str(tmp_path / "judgements")))
    metrics = metrics_of(tmp_path, "collection")
    (of_llm,) = (tau for tau in metrics["taus"] if tau["against"] == "llm")
    assert of_llm["tau"] < 0.5
    # People's positive stays one, whatever the LLM says of it.
    assert "q4\tp4\t1" in (tmp_path / "collection" / "qrels" / "test.tsv").read_text().splitlines()


def test_a_judge_that_taught_the_retriever_is_named(collected: Path) -> None:
    model = metrics_of(collected, "collection")["judges"][0]
    teacher = AnnotateConfig(dataset_uri="", pools_uri="", llm_uri="", output_uri=str(collected / "teacher"))
    with artifact_writer("annotate", teacher) as artifact:
        artifact.metrics["model"] = model
    made = {"product": "collection", "judgements_uri": str(collected / "judgements")}
    collect(config(collected, "taught", annotations_uri=str(collected / "teacher"), **made))
    assert any("agrees with itself" in note for note in metrics_of(collected, "taught")["notes"])
    assert metrics_of(collected, "collection")["notes"] == []
    assert "agrees with itself" in (collected / "taught" / "report.html").read_text()


def test_judgements_of_another_split_are_refused(collected: Path, tmp_path: Path) -> None:
    made = AnnotateConfig(dataset_uri="", pools_uri="", llm_uri="", output_uri=str(tmp_path / "other"))
    with artifact_writer("annotate", made) as artifact:
        other = Annotation("elsewhere", ("p1",), ("positive",), "utility_selection", "m", "ok")
        write_records(artifact.path / "annotations.jsonl", [other])
    with pytest.raises(ValueError, match="query 'elsewhere' is not of split 'test'"):
        collect(config(collected, "no", product="collection", judgements_uri=str(tmp_path / "other")))
    assert not (collected / "no").exists()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_queries": 0}, "num_queries is 0, so there is nothing to judge"),
        ({"runs_uri": ""}, "there are no runs to pool"),
        ({"split": "dev"}, "split 'dev' has no queries"),
        ({"measure": "nDGC@10"}, "measure 'nDGC@10': is no measure"),
        ({"product": "collection"}, "a collection needs the judgements of its pools"),
    ],
)
def test_what_cannot_be_collected_is_refused(tmp_path: Path, settings: dict[str, object], problem: str) -> None:
    write_inputs(tmp_path)
    with pytest.raises(ValueError, match=problem):
        collect(config(tmp_path, **settings))
    assert not (tmp_path / "pools").exists()


def test_tau_is_scipys_and_none_where_there_is_no_ranking() -> None:
    generator = np.random.default_rng(0)
    human, other = generator.random((40, 6)), generator.random((40, 6))
    sure = {"num_resamples": 100, "confidence": 0.95, "seed": 0}
    (tau,) = compare_rankings({HUMAN: human, "llm": other}, **sure)  # type: ignore[arg-type]
    assert tau.tau == pytest.approx(stats.kendalltau(human.mean(axis=0), other.mean(axis=0)).statistic)
    assert tau.low is not None
    assert tau.high is not None
    assert tau.low <= tau.tau <= tau.high
    (equal,) = compare_rankings({HUMAN: human, "llm": np.ones((40, 6))}, **sure)  # type: ignore[arg-type]
    assert (equal.tau, equal.low, equal.high) == (None, None, None)
    assert compare_rankings({HUMAN: human[:, :1], "llm": other[:, :1]}, **sure) == []  # type: ignore[arg-type]


def test_people_are_never_overruled_and_agreement_is_counted_where_both_judged() -> None:
    of_llm, of_people = {"q": {"a": 1, "b": 0, "c": 1}}, {"q": {"b": 2, "c": 0, "z": 1}}
    assert merge(of_llm, of_people) == {"q": {"a": 1, "b": 2, "c": 0, "z": 1}}
    assert passage_agreement(of_llm, of_people) == {
        "num_judged_by_both": 2,
        "num_relevant_to_people": 1,
        "num_useful_to_llm": 1,
        "num_both": 0,
    }


def test_a_query_without_hits_or_without_a_relevant_passage_scores_nothing() -> None:
    grades = {"q1": {"a": 1}, "q2": {"a": 0}, "q3": {"a": 1}}
    values = per_query({"s": {"q1": ("b", "a"), "q2": ("a",)}}, grades, ["q1", "q2", "q3"], "RR@10")
    assert values.tolist() == [[0.5], [0.0], [0.0]]
