"""The whole job against an LLM that counts its calls: what is kept, where it came from, and every call once."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from components.ask import job
from components.ask.job import ask
from components.ask.records import AskedQuery, read_asked
from components.shared.corpus import check_corpus, corpus_digest
from components.shared.dataset import SPLITS, Dataset
from components.shared.durable.journal import read_journal
from components.shared.manifest import open_artifact, read_manifest
from components.shared.records import Passage, Qrel, Query
from tests.components.annotate.fake_engine import FakeEngine, calls
from tests.components.ask.inputs import config, passages, reply, write_dataset
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI
from tests.started import Started


def run(folder: Path, output: str = "asked", **settings: object) -> list[AskedQuery]:
    """The job in this process, with the counting LLM."""
    engine = FakeEngine(folder / "calls", replies=reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: engine)
        try:
            ask(config(folder, output, **settings))
        finally:
            engine.close()
    return list(read_asked(folder / output))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    write_dataset(folder / "dataset", passages(100))
    run(folder)
    return folder


def test_the_dataset_has_the_same_corpus_and_the_kept_queries(asked: Path) -> None:
    before, after = Dataset(asked / "dataset"), Dataset(open_artifact(str(asked / "asked")))
    assert list(after.iter_passages()) == list(before.iter_passages())
    kept = [one for one in read_asked(asked / "asked") if one.is_kept]
    assert {query.query_id: query.text for query in after.queries()} == {one.query_id: one.text for one in kept}
    assert after.asked_ids == {one.query_id for one in kept}
    for split in SPLITS:
        expected = {one.query_id: dict.fromkeys(one.passage_ids, 1) for one in kept if one.split == split}
        assert after.qrels(split) == expected
        assert expected
        # Nobody judged anything.
        assert after.human_qrels(split) == after.human_positives(split) == {}
    assert after.language == "en"


def test_the_corpus_takes_no_room_a_second_time_and_an_index_of_it_stays_good(asked: Path) -> None:
    assert (asked / "dataset" / "corpus.arrow").samefile(asked / "asked" / "corpus.arrow")
    before, after = read_manifest(str(asked / "dataset")), read_manifest(str(asked / "asked"))
    assert corpus_digest(before) == corpus_digest(after)
    assert before.digest != after.digest


def test_everything_that_was_asked_is_kept_with_its_reason_and_the_table_adds_up(asked: Path) -> None:
    records, metrics = list(read_asked(asked / "asked")), read_manifest(str(asked / "asked")).metrics
    assert len(records) == metrics["num_asked"] == 60
    table = metrics["filters"]["all"]
    assert table["asked"] == sum(count for name, count in table.items() if name != "asked") == 60
    assert {name for name, count in table.items() if count} >= {"reply", "copy", "kept"}
    rejected = [one for one in records if not one.is_kept]
    assert all(one.rejected_by and one.detail for one in rejected)
    assert metrics["synthetic"] is True
    assert metrics["num_kept"] == sum(metrics[f"num_kept_{split}"] for split in SPLITS) == table["kept"]


def test_every_query_leads_back_to_its_passage_prompt_and_calls(asked: Path) -> None:
    journal = dict(read_journal(str(asked / "journal")))
    texts = {passage.passage_id: passage.text for passage in passages(100)}
    for one in read_asked(asked / "asked"):
        records = [journal[key] for key in one.calls]
        assert records[-1]["text"] == one.completion
        assert {record["query_id"] for record in records} == {one.query_id}
        assert {record["template"] for record in records} == {f"ask_{one.style}"}
        assert {record["template_version"] for record in records} == {one.template_version}
        assert one.prompt_tokens == sum(record["prompt_tokens"] for record in records)
        assert one.model.startswith("fake@")
        if one.is_kept:
            name = one.text.split(" in ")[1].split(" ")[0]
            assert all(name in texts[passage_id] for passage_id in one.passage_ids)


def test_costs_are_those_of_the_journal(asked: Path) -> None:
    metrics = read_manifest(str(asked / "asked")).metrics
    journal = dict(read_journal(str(asked / "journal")))
    assert metrics["calls_made"] == len(journal) == sum(row["calls"] for row in metrics["paid"].values())
    assert metrics["engine_seconds"] == sum(record["engine_seconds"] for record in journal.values())


def test_the_page_says_that_all_of_it_is_synthetic(asked: Path) -> None:
    page = (asked / "asked" / "logs" / "asked.html").read_text()
    assert "These queries are synthetic" in page
    assert "No person asked or judged anything" in page
    assert "Rejected by copy" in page


def test_another_run_asks_nothing_again_and_makes_the_same_queries(asked: Path, tmp_path: Path) -> None:
    before = calls(asked / "calls").total()
    run(asked, "again", num_in_flight=2)
    assert calls(asked / "calls").total() == before
    for name in ("asked.jsonl", "queries.arrow", "qrels.arrow"):
        assert (asked / "again" / name).read_bytes() == (asked / "asked" / name).read_bytes()


_RUN = """
import sys
from pathlib import Path
from tests.components.ask.test_ask_job import run
run(Path(sys.argv[1]), num_queries=300, styles="question=1,claim=1,conversational=1", min_likelihood_gain=0.1)
"""


def num_calls(folder: Path) -> int:
    path = folder / "calls"
    # A line is a key of 32 characters.
    return path.stat().st_size // 33 if path.exists() else 0


@pytest.mark.slow
def test_kill_9_at_random_points_makes_each_call_once_and_the_same_files(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        write_dataset(folder / "dataset", passages(100))
    settings = {"num_queries": 300, "styles": "question=1,claim=1,conversational=1", "min_likelihood_gain": 0.1}
    run(whole, **settings)
    for point in sorted(random.Random(5).sample(range(1, num_calls(whole)), 5)):
        process = Started("run", str(killed), code=_RUN)
        while num_calls(killed) < point and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run(killed, **settings)
    made, expected = calls(killed / "calls"), calls(whole / "calls")
    assert set(made) == set(expected)
    # A batch of three is in flight at a kill; everything that had come back is not asked again.
    assert made.total() - len(made) <= 3 * 5
    for name in ("asked.jsonl", "queries.arrow", "qrels.arrow", "corpus.arrow"):
        assert (killed / "asked" / name).read_bytes() == (whole / "asked" / name).read_bytes()
    templates = {record["template"] for _, record in read_journal(str(killed / "journal"))}
    assert "ask_query_likelihood" in templates


def test_the_likelihood_test_costs_two_calls_a_query_and_names_them(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", passages(100))
    records = run(tmp_path, min_likelihood_gain=0.1)
    weighed = [one for one in records if one.gain is not None]
    assert weighed
    journal = dict(read_journal(str(tmp_path / "journal")))
    for one in weighed:
        means = [sum(journal[key]["logprobs"]) / len(journal[key]["logprobs"]) for key in one.gain_calls]
        # The first is given the source, the second an unrelated passage.
        assert one.gain == pytest.approx(means[0] - means[1])
        assert one.is_kept == (one.gain >= 0.1)


def test_people_s_queries_stay_as_they_were_and_asked_ones_only_train_beside_them(tmp_path: Path) -> None:
    queries = [(Query("q1", "When did the harbour bridge open?"), "test"), (Query("q2", "the oldest mill"), "train")]
    qrels = [(Qrel("q1", "p0", 2), "test"), (Qrel("q2", "p8", 1), "train")]
    write_dataset(tmp_path / "dataset", passages(100), queries, qrels)
    run(tmp_path)
    dataset = Dataset(tmp_path / "asked")
    assert [query.query_id for query in dataset.queries()][:2] == ["q1", "q2"]
    assert dataset.qrels("test") == dataset.human_qrels("test") == {"q1": {"p0": 2}}
    assert dataset.human_qrels("train") == {"q2": {"p8": 1}}
    assert len(dataset.qrels("train")) > 20
    assert dataset.qrels("dev") == {}
    assert not dataset.asked_ids & {"q1", "q2"}


def test_an_empty_split_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", passages(100))
    with pytest.raises(ValueError, match=r"no query is left for split .*; ask for more \(--num-queries 12\)"):
        run(tmp_path, num_queries=3)
    assert not (tmp_path / "asked").exists()


def test_a_corpus_without_a_passage_to_ask_about_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [Passage("p1", "", "short")])
    with pytest.raises(ValueError, match=r"none of 1 passages can be asked about \(\{'too short': 1\}\)"):
        run(tmp_path)


def test_nothing_is_asked_where_nobody_says_how_many(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", passages(10))
    with pytest.raises(ValueError, match="num_queries is 0"):
        run(tmp_path, num_queries=0)


def test_a_server_is_asked_each_query_once_and_what_it_refuses_is_rejected_and_not_kept_as_an_answer(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path / "dataset", passages(100))

    def answer(path: str, body: dict[str, Any]) -> Answer | None:
        if "chat" not in path:
            return None
        asked = body["messages"][-1]["content"]
        name = asked.split(" of ")[1].split(" ")[0]
        if name == "harbour3":
            return Answer(400, b'{"error": {"code": "content_filter", "message": "not about harbours, please"}}')
        text = f"When did it open in {name}?"
        usage = {"prompt_tokens": 90, "completion_tokens": 7}
        content = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
        return Answer(200, orjson.dumps(content))

    server = FakeOpenAI(fault=answer)
    server.start()
    settings = {"engine": "endpoint", "endpoint_uri": server.endpoint_uri, "num_queries": 100, "styles": "question=1"}
    ask(config(tmp_path, **settings))
    num_asked = len(server.calls)
    ask(config(tmp_path, "again", **settings))
    server.stop()
    (refused,) = (one for one in read_asked(tmp_path / "asked") if one.outcome == "refused")
    assert (refused.passage_ids, refused.rejected_by, refused.calls) == (("p3",), "reply", ())
    assert "not about harbours" in refused.detail
    metrics = read_manifest(str(tmp_path / "asked")).metrics
    assert (metrics["calls_made"], metrics["calls_refused"]) == (99, 1)
    assert metrics["prompt_tokens"] == 99 * 90
    # What was answered is in the journal; only the refused one is asked again.
    assert len(server.calls) == num_asked + 1


def test_the_records_survive_their_file(asked: Path) -> None:
    lines = (asked / "asked" / "asked.jsonl").read_bytes().splitlines()
    assert list(map(orjson.dumps, read_asked(asked / "asked"))) == lines


def test_an_index_of_the_first_dataset_is_taken_for_the_asked_one_and_no_other(asked: Path, tmp_path: Path) -> None:
    from components.index.config import IndexConfig
    from components.shared.manifest import artifact_writer

    def index_of(dataset: Path, output: Path) -> str:
        settings = IndexConfig(dataset_uri=str(dataset), encoder_uri="", output_uri=str(output))
        with artifact_writer("index", settings) as artifact:
            artifact.metrics["corpus"] = corpus_digest(read_manifest(str(dataset)))
        return str(output)

    index = index_of(asked / "dataset", tmp_path / "index")
    check_corpus(index, str(asked / "asked"))
    write_dataset(tmp_path / "dataset", passages(99))
    with pytest.raises(ValueError, match="build the index again"):
        check_corpus(index, str(tmp_path / "dataset"))
