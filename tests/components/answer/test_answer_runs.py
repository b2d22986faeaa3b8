"""Answers from what a real evaluation retrieved: by vectors, by words, and by both."""

from pathlib import Path

import pytest

from components.answer import job
from components.answer.job import answer
from components.answer.records import read_answers
from components.evaluate.job import evaluate
from components.shared.records import Query
from tests.components.annotate.fake_engine import FakeEngine
from tests.components.answer.inputs import config, reply
from tests.components.ask.inputs import passages
from tests.components.evaluate.conftest import build_inputs, write_dataset

SYSTEMS = ("trained", "hybrid_trained", "bm25")


def test_dense_and_hybrid_systems_are_answered_from_like_bm25(tmp_path: Path) -> None:
    corpus = passages(40)
    # The fourth word names what a passage is about; all other words stand in many.
    asked = [
        Query(f"q{number}", f"when was the market of {corpus[number].text.split()[3]} opened", (str(1800 + number),))
        for number in range(8)
    ]
    judged = {query.query_id: {f"p{number}": 1} for number, query in enumerate(asked)}
    dataset = write_dataset(tmp_path / "dataset", corpus, {"test": asked}, {"test": judged})
    evaluate(build_inputs(tmp_path, dataset))
    engine = FakeEngine(tmp_path / "calls", replies=reply)
    made = {
        "runs_uri": "",
        "evaluation_uri": str(tmp_path / "evaluation"),
        "systems": ",".join(SYSTEMS),
        "closed_book": "no",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: engine)
        try:
            answer(config(tmp_path, num_queries=8, **made))
        finally:
            engine.close()
    shown = {(one.system, one.query_id): one.passage_ids for one in read_answers(tmp_path / "answers")}
    retrieved: dict[tuple[str, str], tuple[str, ...]] = {}
    for system in SYSTEMS:
        for line in (tmp_path / "evaluation" / "runs" / f"{system}.trec").read_text().splitlines():
            query_id, _, passage_id, rank, *_ = line.split()
            if int(rank) <= 3:
                retrieved[system, query_id] = (*retrieved.get((system, query_id), ()), passage_id)
    assert {key: passage_ids for key, passage_ids in shown.items() if key[0] in SYSTEMS} == retrieved
    # The three do not retrieve the same, so that none of them stood for another.
    assert len({tuple(retrieved[system, query.query_id] for query in asked) for system in SYSTEMS}) == 3
