"""What having an LLM write the queries will cost, said before it is asked anything."""

import json
import re
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.packaged import find_llm
from tests.components.ask.inputs import passages


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    try:
        find_llm()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    folder = tmp_path / "collection"
    folder.mkdir()
    rows = [{"_id": passage.passage_id, "title": passage.title, "text": passage.text} for passage in passages(60)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_corpus_without_queries_is_quoted_for_its_queries_first(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "w"
    asked = ("ask.num_queries=50", "ask.styles=question=1", "ask.min_likelihood_gain=0.1")
    code = cli.estimate(workdir, data=collection, set=asked, prompt_million_dollars=1.0)
    assert code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("asking for 50 queries\n")
    rows = dict(re.findall(r"^(ask_\w+|together) +([\d,]+) ", shown, re.MULTILINE))
    # One call a query, and two more for the test of likelihoods.
    assert rows == {"ask_question": "50", "ask_query_likelihood": "100", "together": "150"}
    (tokens,) = re.findall(r"^ask_question +50 +([\d,]+) ", shown, re.MULTILINE)
    # The prompt with its example has between 150 and 300 tokens.
    assert 150 * 50 < int(tokens.replace(",", "")) < 300 * 50
    assert "run `retriever estimate` again then" in shown
    # Nothing is written, and no model is loaded or asked.
    assert not workdir.exists()
