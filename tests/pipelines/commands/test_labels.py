"""retriever estimate, trace and quality over a work folder: what a person reads before paying and after."""

import json
import re
from pathlib import Path

import pytest

from components.annotate import job
from components.annotate.job import annotate
from components.shared.records import Annotation, read_records
from pipelines import cli
from pipelines.packaged import find_llm
from tests.components.annotate.fake_engine import FakeEngine
from tests.components.annotate.inputs import job_config, write_inputs


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pools, and annotations by an LLM that is told what to say."""
    write_inputs(tmp_path, num_queries=30)
    monkeypatch.setattr(job, "open_engine_of", lambda *_, **__: FakeEngine(tmp_path / "calls"))
    annotate(job_config(tmp_path, journal_uri=str(tmp_path / "journal")))
    return tmp_path


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(
        "annotate: {llm_uri: packaged:SmolLM2-135M-Instruct, engine: transformers, method: query_likelihood}\n"
    )
    return path


def test_a_trace_is_found_by_the_work_folder_alone(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotation = next(iter(read_records(workdir / "annotations" / "annotations.jsonl", Annotation)))
    assert cli.trace(annotation.query_id, workdir) == 0
    story = capsys.readouterr().out
    assert story.startswith(f"query {annotation.query_id}: query ")
    assert all(key in story for key in annotation.calls)
    assert "qrels: useful" in story


def test_a_trace_follows_a_moved_work_folder(workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("dataset", "pools", "annotations", "journal"):
        (workdir / name).rename(moved / name)
    assert cli.trace("q0", moved) == 0
    assert "is not in this journal" not in capsys.readouterr().out


def test_a_trace_without_annotations_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished annotations here; run `retriever run"):
        cli.trace("q0", tmp_path)


def test_a_quote_says_tokens_price_time_and_break_even(
    workdir: Path, params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.estimate(
        workdir,
        params,
        sample=10,
        engine_hour_dollars=0.8,
        num_engines=2,
        prompt_tokens_per_second=1000.0,
        fixed_dollars=10.0,
    )
    assert code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("30 queries, 150 passages to judge; counted on 10 queries")
    row = re.search(r"^together +([\d,]+) +([\d,]+) +[\d,]+ +0 +\$([\d.]+)", shown, re.MULTILINE)
    assert row
    calls, tokens, cost = int(row[1]), int(row[2].replace(",", "")), float(row[3])
    assert calls == 150
    # A thousand tokens a second at 0.8 dollars an hour.
    assert cost == pytest.approx(tokens / 1000 / 3600 * 0.8, rel=0.5)
    # 150 labels at 0.09; 0.45 dollars of people a query pay 10 dollars back after 22 to 23.
    assert "people: $13.50 for the same labels" in shown
    assert re.search(r"cheaper than people from 2[23] queries on", shown)
    assert "on 2 engine(s)" in shown


def test_a_quote_for_selection_says_what_it_takes_as_given(
    workdir: Path, params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.estimate(workdir, params, set=("annotate.method=utility_selection",), prompt_million_dollars=0.15) == 0
    # The work folder holds annotations of that method: the fake LLM selected the first two of five, and both of these
    # as useful.
    assert "taken as given: 40% selected as relevant, 100% of these as useful" in capsys.readouterr().out
    assert cli.estimate(workdir, params, set=("annotate.method=utility_ranking",)) == 0
    assert "taken as given: 20% selected as relevant, 47% of these as useful" in capsys.readouterr().out


def test_a_quote_writes_nothing_into_the_work_folder(workdir: Path, params: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in workdir.rglob("*") if path.is_file()
        }

    before = state()
    assert cli.estimate(workdir, params, sample=3) == 0
    assert state() == before


def test_a_quote_without_pools_says_so(tmp_path: Path, params: Path) -> None:
    with pytest.raises(ValueError, match="no finished artifact here"):
        cli.estimate(tmp_path, params)
    assert find_llm().exists()


def test_annotations_side_by_side_make_a_table_and_a_page(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = f"second={workdir / 'annotations'}"
    assert cli.quality((f"first={workdir / 'annotations'}", again), workdir / "dataset", workdir / "both") == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"^(?:first|second) +useful +qrels", shown, re.MULTILINE)) == 2
    assert len(json.loads((workdir / "both" / "quality.json").read_bytes())["annotators"]) == 2
    with pytest.raises(ValueError, match="write name=folder"):
        cli.quality(("annotations",), workdir / "dataset", workdir / "both")
