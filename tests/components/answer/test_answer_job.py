"""The whole job against an LLM that counts its calls: what answers are worth, and every call once."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from components.annotate.config import AnnotateConfig
from components.answer import job
from components.answer.job import answer
from components.answer.records import Answer, read_answers
from components.evaluate.config import EvaluateConfig
from components.shared.durable.journal import read_journal
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.records import Qrel, RecordError
from tests.components.annotate.fake_engine import FakeEngine, calls
from tests.components.answer.inputs import config, queries, reply, write_inputs, write_run
from tests.components.ask.inputs import passages, write_dataset
from tests.components.shared.engines.openai_server import Answer as HttpAnswer
from tests.components.shared.engines.openai_server import FakeOpenAI


def run(folder: Path, output: str = "answers", **settings: object) -> list[Answer]:
    """The job in this process, with the counting LLM."""
    engine = FakeEngine(folder / "calls", replies=reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: engine)
        try:
            answer(config(folder, output, **settings))
        finally:
            engine.close()
    return list(read_answers(folder / output))


def metrics_of(folder: Path, output: str = "answers") -> dict[str, Any]:
    metrics: dict[str, Any] = orjson.loads((folder / output / "metrics.json").read_bytes())
    return metrics


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answered")
    write_inputs(folder)
    run(folder)
    return folder


def test_every_system_answers_the_same_queries_between_both_bounds(answered: Path) -> None:
    by_system: dict[str, list[str]] = {}
    for one in read_answers(answered / "answers"):
        by_system.setdefault(one.system, []).append(one.query_id)
    assert list(by_system) == ["closed_book", "good", "bad", "oracle"]
    expected = [query.query_id for query in queries(30)]
    assert all(query_ids == expected for query_ids in by_system.values())


def test_answers_are_worth_what_their_passages_hold(answered: Path) -> None:
    systems = metrics_of(answered)["systems"]
    # The oracle reads the passage with the year, the good run has it first for two of three queries, the bad one never.
    assert {name: row["EM"]["mean"] for name, row in systems.items()} == pytest.approx(
        {"closed_book": 0.0, "good": 200 / 3, "bad": 0.0, "oracle": 100.0}
    )
    assert systems["good"]["EM"]["low"] < 200 / 3 < systems["good"]["EM"]["high"]
    flat = read_manifest(str(answered / "answers")).metrics
    assert flat["oracle_F1"] == 100.0


def test_the_first_run_is_compared_with_all_others_and_only_the_primary_measure_decides(answered: Path) -> None:
    rows = metrics_of(answered)["comparisons"]
    assert {row["system"] for row in rows} == {"good"}
    assert {row["against"] for row in rows} == {"closed_book", "bad", "oracle"}
    assert {row["measure"] for row in rows} == {"EM", "F1", "ROUGE-L", "BLEU"}
    for row in rows:
        assert (row["p_holm"] is not None) == (row["measure"] == "F1")
        assert row["test"] == ("paired bootstrap" if row["measure"] == "BLEU" else "paired t-test")
    (of_bad,) = (row for row in rows if row["against"] == "bad" and row["measure"] == "F1")
    assert of_bad["p_value"] <= of_bad["p_holm"] < 0.001


def test_an_answer_leads_back_to_its_passages_its_reply_and_its_call(answered: Path) -> None:
    journal = dict(read_journal(str(answered / "journal")))
    for one in read_answers(answered / "answers"):
        record = journal[one.call]
        assert record["text"] == one.completion
        assert record["template_version"] == one.template_version
        assert record["template"] == ("answer_passages" if one.passage_ids else "answer_closed_book")
        assert one.model.startswith("fake@")
        if one.system == "oracle":
            assert one.passage_ids == (f"p{one.query_id[1:]}",)


def test_replies_that_are_no_answer_count_as_wrong_and_are_told(answered: Path) -> None:
    outcomes = metrics_of(answered)["outcomes"]
    assert outcomes["closed_book"] == {"ok": 10, "repaired": 0, "truncated": 0, "refused": 10, "empty": 10}
    assert outcomes["oracle"]["repaired"] == 30
    assert all(
        one.answer == "" and one.scores["F1"] == 0.0
        for one in read_answers(answered / "answers")
        if one.outcome in ("refused", "empty")
    )


def test_costs_are_those_of_the_journal(answered: Path) -> None:
    metrics, journal = metrics_of(answered), dict(read_journal(str(answered / "journal")))
    assert metrics["calls_made"] == len(journal) == metrics["num_calls"]
    assert metrics["prompt_tokens"] == sum(record["prompt_tokens"] for record in journal.values())
    assert sum(row["calls"] for row in metrics["paid"].values()) == len(journal)


def test_two_systems_that_show_the_same_passages_share_a_call(answered: Path, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    write_run(tmp_path / "same.trec", {f"q{number}": [f"p{number}"] for number in range(30)})
    run(tmp_path, runs_uri=str(tmp_path / "same.trec"), systems="")
    # 30 without passages, and 30 for the run and the oracle together.
    assert calls(tmp_path / "calls").total() == 60


def test_another_run_asks_nothing_again_and_writes_the_same_answers(answered: Path) -> None:
    before = calls(answered / "calls").total()
    run(answered, "again", num_in_flight=2)
    assert calls(answered / "calls").total() == before
    again = (answered / "again" / "answers.jsonl").read_bytes()
    assert again == (answered / "answers" / "answers.jsonl").read_bytes()


def test_only_the_passages_asked_for_are_shown_and_cut_to_their_length(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    engine = FakeEngine(replies=reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: engine)
        answer(config(tmp_path, num_passages=1, passage_words=4, closed_book="no", oracle="no", systems="good"))
    shown = [turn.content for request in engine.requests for turn in request.turns[-1:]]  # type: ignore[union-attr]
    assert len(shown) == 30
    # Two words of the title and two of the text.
    assert all(text.count("<passage>") == 1 and "was opened" not in text for text in shown)


_RUN = """
import sys
from pathlib import Path
from tests.components.answer.test_answer_job import run
run(Path(sys.argv[1]), num_queries=100)
"""


def num_calls(folder: Path) -> int:
    path = folder / "calls"
    # A line is a key of 32 characters.
    return path.stat().st_size // 33 if path.exists() else 0


@pytest.mark.slow
def test_kill_9_at_random_points_makes_each_call_once_and_the_same_file(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_inputs(folder, num_queries=100)
    run(whole, num_queries=100)
    points = sorted(random.Random(7).sample(range(1, num_calls(whole)), 4))
    for point in points:
        process = subprocess.Popen([sys.executable, "-c", _RUN, str(killed)], stderr=subprocess.DEVNULL)
        while num_calls(killed) < point and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "answers").exists()
    run(killed, num_queries=100)
    made, expected = calls(killed / "calls"), calls(whole / "calls")
    assert set(made) == set(expected)
    assert set(expected.values()) == {1}
    # A batch of three is in flight at a kill; everything that had come back is not asked again.
    assert made.total() - len(made) <= 3 * len(points)
    finished = dict(read_journal(str(killed / "journal")))
    assert set(finished) == set(expected)
    assert (killed / "answers" / "answers.jsonl").read_bytes() == (whole / "answers" / "answers.jsonl").read_bytes()


def test_a_server_is_asked_each_question_once_and_what_it_refuses_counts_as_wrong(tmp_path: Path) -> None:
    write_inputs(tmp_path)

    def answer_http(path: str, body: dict[str, Any]) -> HttpAnswer | None:
        if "chat" not in path:
            return None
        asked = body["messages"][-1]["content"]
        if "number 4 " in asked:
            return HttpAnswer(400, b'{"error": {"code": "content_filter", "message": "not this one"}}')
        usage = {"prompt_tokens": 90, "completion_tokens": 7}
        content = {"choices": [{"message": {"content": "1807"}, "finish_reason": "stop"}], "usage": usage}
        return HttpAnswer(200, orjson.dumps(content))

    server = FakeOpenAI(fault=answer_http)
    server.start()
    settings = {"engine": "endpoint", "endpoint_uri": server.endpoint_uri, "systems": "good", "oracle": "no"}
    answer(config(tmp_path, **settings))
    num_asked = len(server.calls)
    answer(config(tmp_path, "again", **settings))
    server.stop()
    refused = [one for one in read_answers(tmp_path / "answers") if one.outcome == "refused"]
    assert [(one.query_id, one.call) for one in refused] == [("q4", ""), ("q4", "")]
    assert all("not this one" in one.detail for one in refused)
    assert metrics_of(tmp_path)["calls_refused"] == 2
    # What was answered is in the journal; only what was refused is asked again.
    assert len(server.calls) == num_asked + 2


def test_an_evaluation_of_this_dataset_is_answered_from_and_another_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    places = {"base_encoder_uri": "", "base_index_uri": "", "encoder_uri": "", "index_uri": ""}
    made = EvaluateConfig(dataset_uri=str(tmp_path / "dataset"), output_uri=str(tmp_path / "evaluation"), **places)
    with artifact_writer("evaluate", made) as artifact:
        (artifact.path / "runs").mkdir()
        for name in ("good", "bad"):
            (artifact.path / "runs" / f"{name}.trec").write_text((tmp_path / f"{name}.trec").read_text())
    by_evaluation = {"runs_uri": "", "evaluation_uri": str(tmp_path / "evaluation")}
    run(tmp_path, **by_evaluation)
    run(tmp_path, "by address")
    assert (tmp_path / "answers" / "answers.jsonl").read_bytes() == (
        tmp_path / "by address" / "answers.jsonl"
    ).read_bytes()
    write_dataset(
        tmp_path / "dataset", passages(90), [(query, "test") for query in queries(20)], [(Qrel("q1", "p1", 1), "test")]
    )
    with pytest.raises(ValueError, match=r"its runs are of dataset .*name the dataset that was evaluated"):
        run(tmp_path, "other", **by_evaluation)


def test_the_page_says_so_where_the_llm_that_answers_also_labelled(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    teacher = AnnotateConfig(dataset_uri="", pools_uri="", llm_uri="fake", output_uri=str(tmp_path / "annotations"))
    for number, model in enumerate(("another@1", None)):
        with artifact_writer("annotate", teacher) as artifact:
            artifact.metrics["model"] = model or metrics_of(tmp_path, "answers0")["model"]
        run(tmp_path, f"answers{number}", annotations_uri=str(tmp_path / "annotations"))
        notes = metrics_of(tmp_path, f"answers{number}")["notes"]
        assert any("also made the labels" in note for note in notes) == (model is None)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_queries": 0}, r"num_queries is 0, so there is nothing to answer; say how many \(--num-queries 50\)"),
        ({"systems": "good,best"}, "no run is called best; there are good, bad"),
        ({"split": "dev"}, r"none of the 0 queries of split 'dev' has a reference answer.*\(--split test\)"),
        ({"runs_uri": "", "systems": "", "closed_book": "no", "oracle": "no"}, "nothing to answer from"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_the_llm_is_opened(
    tmp_path: Path, settings: dict[str, object], problem: str
) -> None:
    write_inputs(tmp_path)
    with pytest.raises(ValueError, match=problem):
        run(tmp_path, **settings)
    assert num_calls(tmp_path) == 0
    assert not (tmp_path / "answers").exists()


def test_a_dataset_without_answers_is_refused_with_what_to_add(tmp_path: Path) -> None:
    write_inputs(tmp_path, answers=False)
    with pytest.raises(
        ValueError, match=r'none of the 30 queries .* has a reference answer.*a list "answers" on their'
    ):
        run(tmp_path)


def test_a_query_without_a_positive_is_left_out_for_all_systems_only_where_the_oracle_needs_one(tmp_path: Path) -> None:
    asked = [(query, "test") for query in queries(30)]
    write_inputs(tmp_path)
    write_dataset(
        tmp_path / "dataset", passages(100), asked, [(Qrel("q1", "p1", 1), "test"), (Qrel("q2", "p2", 0), "test")]
    )
    assert {one.query_id for one in run(tmp_path)} == {"q1"}
    assert len({one.query_id for one in run(tmp_path, "all", oracle="no")}) == 30
    write_dataset(tmp_path / "dataset", passages(100), asked, [])
    with pytest.raises(ValueError, match=r"has a known positive .*--oracle no"):
        run(tmp_path, "none")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q1 Q0 p1 1 0.5\n", r"good.trec:1: no line of a TREC run \(5 fields"),
        ("q1 Q0 p1 1 high made\n", r"good.trec:1: no line of a TREC run \(could not convert"),
        ("q1 Q0 p1 1 nan made\n", r"good.trec:1: no line of a TREC run \(a score that is no number"),
        ("other Q0 p1 1 0.5 made\n", "good.trec:1: query 'other' is not in the dataset"),
        ("q1 Q0 elsewhere 1 0.5 made\n", "good.trec:1: passage 'elsewhere' is not in the corpus"),
        ("q1 Q0 p1 1 0.5 made\nq1 Q0 p1 2 0.4 made\n", "good.trec:1: query 'q1' has a passage twice"),
        ("", "has none of the 30 queries that are asked for, such as 'q0'"),
    ],
)
def test_a_run_of_another_dataset_or_a_broken_one_is_refused_by_its_line(
    tmp_path: Path, line: str, problem: str
) -> None:
    write_inputs(tmp_path)
    (tmp_path / "good.trec").write_text(line)
    with pytest.raises(ValueError, match=problem) as caught:
        run(tmp_path)
    assert isinstance(caught.value, RecordError) == bool(line)


def test_the_report_shows_the_headline_and_what_each_system_said(answered: Path) -> None:
    page = (answered / "answers" / "report.html").read_text()
    assert "on 30 queries from the first 3 passages of good" in page
    assert "when did the one in number 1 open" in page
    assert "sacrebleu" not in page
    assert "version:2" in page
    assert "rouge-score:" in page
