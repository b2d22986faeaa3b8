"""The job's reports: ledger, quality and trace of real runs over an LLM that is told what to say."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.annotate import job
from components.annotate.job import annotate
from components.annotate.quality.gold import qrels_gold
from components.annotate.quality.recheck import is_rechecked, reordered
from components.annotate.quality.report import compare
from components.annotate.trace import trace
from components.shared.dataset import Dataset
from components.shared.durable.journal import read_journal
from components.shared.engines.engine import CompletionRequest
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, Pool, Quarantined, read_records
from tests.components.annotate.fake_engine import FakeEngine
from tests.components.annotate.inputs import job_config, write_inputs


def run(
    folder: Path,
    output: str = "annotations",
    *,
    reply: Callable[[CompletionRequest], str] | None = None,
    **settings: object,
) -> Path:
    """The job in this process; the LLM is an outside thing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: FakeEngine(folder / "calls", replies=reply))
        annotate(job_config(folder, output, journal_uri=str(folder / "journal"), **settings))
    return folder / output


def report(path: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "logs" / name).read_text())
    return content


def num_shown(request: CompletionRequest) -> int:
    return len({match for turn in request.turns for match in re.findall(r"^\[(\d+)\]", turn.content, re.MULTILINE)})


def first_and_last(request: CompletionRequest) -> str:
    """An annotator that looks at places only: what a bias is."""
    return "Because." if "three sentences" in request.turns[-1].content else f"[1], [{num_shown(request)}]"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path, num_queries=40)
    return tmp_path


def test_the_ledger_is_the_sum_of_the_journal_and_a_second_artifact_pays_only_for_what_is_new(inputs: Path) -> None:
    first = run(inputs, engine_hour_dollars=3.6, prompt_million_dollars=2.0)
    records = [value for _, value in read_journal(str(inputs / "journal"))]
    ledger = report(first, "ledger.json")
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "engine_seconds"):
        assert ledger["total"][name] == pytest.approx(sum(record[name] for record in records))
    assert ledger["total"]["calls"] == len(records)
    assert (ledger["num_queries"], ledger["num_pairs"]) == (40, 200)
    # 3.6 dollars an hour are 0.001 a second; prompt tokens besides those cached, which cost nothing here.
    fresh = ledger["total"]["prompt_tokens"] - ledger["total"]["cached_tokens"]
    assert ledger["total"]["dollars"] == pytest.approx(ledger["total"]["engine_seconds"] * 0.001 + fresh * 2e-6)
    assert ledger["total"]["dollars_per_thousand_queries"] == pytest.approx(ledger["total"]["dollars"] * 25)
    assert ledger["human"]["dollars"] == pytest.approx(200 * 0.09)
    second = run(inputs, "again", human_label_dollars=1.0)
    again = report(second, "ledger.json")
    assert again["total"]["calls"] == 0
    # All that is behind the labels, whoever paid; the calls of the rechecked sample are behind none.
    assert again["used"]["calls"] == sum(
        len(its.calls) for its in read_records(second / "annotations.jsonl", Annotation)
    )
    assert again["used"] == ledger["used"] | {name: 0.0 for name in ledger["used"] if name.startswith("dollars")}
    assert ledger["used"]["calls"] <= ledger["total"]["calls"]


def test_reports_are_no_part_of_the_digest_and_their_prices_and_gold_make_nobody_train_again(inputs: Path) -> None:
    first = read_manifest(str(run(inputs)))
    other = read_manifest(
        str(run(inputs, "other", engine_hour_dollars=9.0, gold_queries=5, previous_uri=str(inputs / "annotations")))
    )
    assert {"logs/ledger.json", "logs/quality.json", "logs/quality.html", "logs/recheck.jsonl"} <= set(first.files)
    assert first.digest == other.digest
    assert first.identity != other.identity


def test_a_position_bias_of_the_llm_is_flagged_and_one_who_reads_is_not(inputs: Path) -> None:
    biased = run(inputs, reply=first_and_last, recheck_share=1.0)
    found = report(biased, "quality.json")["annotators"][0]
    assert found["positions"]["relevance_selection"]["biased"] is True
    assert "relevance_selection" in read_manifest(str(biased)).metrics["position_bias"]
    # Who judges places, not passages, agrees with itself no better than chance once the order changes.
    assert found["self_agreement"]["num_queries"] == 40
    assert found["self_agreement"]["kappa"]["high"] < 0.4
    reader = run(inputs, "reader", method="query_likelihood", recheck_share=1.0)
    found = report(reader, "quality.json")["annotators"][0]
    assert found["positions"]["query_likelihood"]["biased"] is False
    assert found["self_agreement"]["kappa"]["value"] == 1.0
    assert read_manifest(str(reader)).metrics["position_bias"] == "none found"


def test_drift_against_the_previous_run_is_measured(inputs: Path) -> None:
    settings = {"method": "query_likelihood", "calibration_queries": 0}
    previous = run(inputs, "previous", **settings)
    found = report(run(inputs, positive_margin=5.0, previous_uri=str(previous), **settings), "quality.json")[
        "annotators"
    ][0]
    assert found["drift"]["num_queries"] == 40
    assert found["drift"]["num_selected_before"]["value"] < found["drift"]["num_selected_after"]["value"]
    assert found["drift"]["num_selected_p_value"] < 0.01


def test_methods_stand_side_by_side_and_shards_count_as_one(inputs: Path) -> None:
    shards = [
        str(run(inputs, f"shard-{shard}", method="query_likelihood", shard=shard, num_shards=2)) for shard in range(2)
    ]
    listwise = run(inputs, "listwise", reply=first_and_last)
    golds = [qrels_gold(Dataset(inputs / "dataset"))]
    measured = compare({"likelihood": shards, "listwise": [str(listwise)]}, golds, inputs / "both", title="both")
    likelihood, other = measured["annotators"]
    assert (likelihood["num_queries"], other["num_queries"]) == (40, 40)
    assert likelihood["ledger"]["num_queries"] == 40
    assert likelihood["ledger"]["total"]["calls"] == 200
    # The margins were fitted to half of the 40 judged queries; the others tell, and of both methods.
    assert measured["num_fitted_on"] == 20
    assert likelihood["levels"]["useful"]["against"]["qrels"]["num_useful"] == 20
    assert other["levels"]["useful"]["against"]["qrels"]["num_useful"] == 20
    page = (inputs / "both" / "quality.html").read_text()
    assert "likelihood" in page
    assert "listwise" in page


def test_a_trace_tells_the_whole_story_of_a_query(inputs: Path) -> None:
    output = run(inputs, reply=first_and_last, recheck_share=1.0)
    dataset = Dataset(inputs / "dataset")
    golds = [qrels_gold(dataset)]
    annotation = next(iter(read_records(output / "annotations.jsonl", Annotation)))
    story = trace(
        annotation.query_id,
        annotations_uris=[str(output)],
        dataset=dataset,
        pools_uri=str(inputs / "pools"),
        journal_uri=str(inputs / "journal"),
        golds=golds,
    )
    assert dataset.query(annotation.query_id).text in story
    for number, exchange in enumerate(annotation.exchanges, start=1):
        assert (
            f"{number}. {exchange.template} ({exchange.template_version}), rung {exchange.rung}: {exchange.outcome}"
            in story
        )
        for key in exchange.calls:
            assert key in story
    assert "| [1], [5]" in story
    assert "not in this journal" not in story
    for passage_id, label in zip(annotation.passage_ids, annotation.labels, strict=True):
        assert re.search(rf"{label} .*{passage_id}  \[bm25, qrels: ", story)
    assert "judged again in another order: " in story


def test_a_trace_of_a_query_without_labels_shows_the_last_completion(inputs: Path) -> None:
    def prose(request: CompletionRequest) -> str:
        return "I like passages." if "query 3 " in request.turns[-1].content else "[1]"

    output = run(inputs, reply=prose)
    (failed,) = read_records(output / "quarantine.jsonl", Quarantined)
    story = trace(
        failed.query_id,
        annotations_uris=[str(output)],
        dataset=Dataset(inputs / "dataset"),
        pools_uri=str(inputs / "pools"),
        journal_uri=str(inputs / "journal"),
    )
    assert "no labels: unparseable" in story
    assert "| I like passages." in story
    with pytest.raises(ValueError, match="no labels of query 'nobody'"):
        trace(
            "nobody",
            annotations_uris=[str(output)],
            dataset=Dataset(inputs / "dataset"),
            pools_uri=str(inputs / "pools"),
            journal_uri=str(inputs / "journal"),
        )


def test_a_likelihoods_trace_shows_every_passages_score(inputs: Path) -> None:
    output = run(inputs, method="query_likelihood")
    annotation = next(iter(read_records(output / "annotations.jsonl", Annotation)))
    places = {"pools_uri": str(inputs / "pools"), "journal_uri": str(inputs / "journal")}
    story = trace(annotation.query_id, annotations_uris=[str(output)], dataset=Dataset(inputs / "dataset"), **places)
    for place, score in enumerate(annotation.scores):
        assert f"place {place} ({annotation.passage_ids[place]}): {score:.4f} nats a token" in story


def test_the_rechecked_sample_is_drawn_by_id_and_never_keeps_its_order() -> None:
    drawn = [f"q{number}" for number in range(20_000) if is_rechecked(f"q{number}", share=0.02, seed=1)]
    # Binomial: 400 with a standard deviation of 20.
    assert 320 < len(drawn) < 480
    assert drawn != [f"q{number}" for number in range(20_000) if is_rechecked(f"q{number}", share=0.02, seed=2)]
    assert not any(is_rechecked(f"q{number}", share=0.0, seed=1) for number in range(1000))
    for number in range(200):
        pool = Pool(f"q{number}", ("a", "b"), ("bm25", "human"), number)
        assert reordered(pool).passage_ids == ("b", "a")
        assert reordered(pool).sources == ("human", "bm25")
    assert reordered(Pool("q", ("a",), ("bm25",), 1)).passage_ids == ("a",)
