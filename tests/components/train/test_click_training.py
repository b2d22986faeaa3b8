"""Trainings on clicks: of one source they have its weights bit for bit, and kappa is chosen by dev."""

from pathlib import Path

import pytest

from components.shared.manifest import read_manifest
from components.train.job import train
from tests.components.train.click_logs import click_log
from tests.components.train.learnable import config, write_inputs

LLM = "[{name: s, labels: llm, learning_rate: 3.0e-3}]"
CLICKS = "[{name: s, labels: clicks, loss: click_listwise, learning_rate: 3.0e-3}]"
BOTH = "[{{name: s, labels: clicks_and_llm, blend: frequency, {}, learning_rate: 3.0e-3}}]"


@pytest.fixture(scope="module")
def clicked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second query was shown four passages, the right one second, and it was clicked."""
    rows = []
    for number in range(0, 40, 2):
        shown = [f"p{(number + step) % 40}" for step in (3, 0, 7, 11)]
        rows += [(f"s{number}", f"q{number}", p, rank, int(rank == 2), 0.0) for rank, p in enumerate(shown, start=1)]
    return write_inputs(tmp_path_factory.mktemp("clicked"), clicks=click_log(rows))


def weights(inputs: Path, name: str, curriculum: str, **settings: object) -> str:
    output = str(inputs / name)
    train(config(inputs, curriculum=curriculum, output_uri=output, dev_queries=0, **settings))
    return str(read_manifest(output).files["model.safetensors"]["sha256"])


def test_a_share_of_0_trains_as_the_llm_alone_and_of_1_as_clicks_alone(clicked: Path) -> None:
    of_llm, of_clicks = weights(clicked, "llm", LLM), weights(clicked, "clicks", CLICKS)
    assert of_llm != of_clicks
    assert weights(clicked, "share-0", BOTH.format("click_share: 0")) == of_llm
    assert weights(clicked, "share-1", BOTH.format("click_share: 1")) == of_clicks


def test_kappa_is_chosen_by_dev_and_said(clicked: Path) -> None:
    output = str(clicked / "tuned")
    both = BOTH.format("kappa: -1")
    train(config(clicked, curriculum=both, output_uri=output, dev_human_share=1.0, dev_queries=5, dev_passages=10))
    said = read_manifest(output).metrics["clicks"]
    # The queries have a session each, so the multiples are the values.
    assert set(said["dev_ndcg_10_by_kappa"]) == {"1", "0.25", "4"}
    best = max(said["dev_ndcg_10_by_kappa"], key=said["dev_ndcg_10_by_kappa"].__getitem__)
    assert said["kappa"] == {"s": float(best)}
    assert len(said["propensities"]) == 4


def test_a_dataset_without_clicks_is_refused(inputs: Path) -> None:
    with pytest.raises(ValueError, match=r"learns from clicks, and there are none of train queries; put clicks\.tsv"):
        train(config(inputs, curriculum=CLICKS))
