"""What having an LLM answer the queries will cost, said before it is asked anything."""

import re
from pathlib import Path

import pytest

from components.annotate.cost.estimate import Throughput
from components.answer import job
from components.answer.job import answer
from components.shared.calls.tally import Prices
from pipelines.commands.quotes import answering_lines
from pipelines.packaged import find_llm
from pipelines.settings import complete
from tests.components.annotate.fake_engine import FakeEngine
from tests.components.answer.inputs import config, reply, write_inputs


@pytest.fixture
def llm() -> str:
    try:
        return str(find_llm())
    except FileNotFoundError as error:
        pytest.skip(str(error))


def _quoted(folder: Path, llm: str, **settings: object) -> dict[str, list[int]]:
    given = {"llm_uri": llm, "engine": "transformers", "num_queries": 30, "systems": "good,bad", **settings}
    lines = answering_lines(complete({"answer": given}), folder, folder, prices=Prices(), throughput=Throughput())
    rows = re.findall(r"^(\w+) +([\d,]+) +([\d,]+) +([\d,]+) ", "\n".join(lines), re.MULTILINE)
    return {name: [int(number.replace(",", "")) for number in numbers] for name, *numbers in rows}


def test_answers_are_quoted_by_run_and_bound_and_what_is_paid_costs_nothing(
    llm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inputs(tmp_path)
    rows = _quoted(tmp_path, llm)
    assert rows["answer_closed_book"][0] == 30
    # Two runs and the oracle, which shows one passage where the runs show three.
    assert rows["answer_passages"][0] == 90
    assert rows["together"][0] == 120
    assert _quoted(tmp_path, llm, closed_book="no", oracle="no")["together"][0] == 60
    assert rows["answer_passages"][1] > 90 * 100
    # The same calls in the journal of a model of this name.
    monkeypatch.setattr(job, "open_engine_of", lambda *_, **__: _Named(tmp_path / "calls", llm))
    answer(config(tmp_path, llm_uri=llm, engine="transformers", oracle="no", systems="good"))
    paid = _quoted(tmp_path, llm)
    assert "answer_closed_book" not in paid
    # BM25's hits stand for those of the runs, so theirs are not known to be paid.
    assert paid["together"][0] <= 90


class _Named(FakeEngine):
    def __init__(self, log_path: Path, llm: str) -> None:
        super().__init__(log_path, replies=reply)
        self.model = Path(llm).name


def test_nothing_is_quoted_where_nothing_is_answered(llm: str, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    assert _quoted(tmp_path, llm, num_queries=0) == {}
