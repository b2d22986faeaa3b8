"""Which weights a run keeps: never worse ones than the base model's on dev, and it says why."""

import re
from pathlib import Path

import pytest
import torch

from components.shared import checkpoint
from components.shared.manifest import read_manifest
from components.train.job import train
from components.train.loop.choice import choose_weights, load_mixture
from components.train.loop.state import Position
from tests.components.train.learnable import config

_SPOILT = "[{name: spoil, labels: llm, epochs: 1, learning_rate: 0.5}]"


def test_where_no_step_raises_dev_the_base_model_is_kept_and_it_says_why(
    inputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(config(inputs, curriculum=_SPOILT, dev_human_share=1.0, mixing_shares="0.5"))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert (metrics["kept"], metrics["trained_share"]) == ("base", 0.0)
    value = metrics["base_dev_ndcg_10"]
    assert metrics["kept_reason"] == f"no measured step raised dev nDCG@10 above the base model's {value:.4f}"
    assert metrics["kept_reason"] in capfd.readouterr().err
    base, kept = (checkpoint.load(str(inputs / name)).state_dict() for name in ("base", "checkpoint"))
    assert all(weight.equal(kept[name]) for name, weight in base.items())


def test_trained_weights_are_kept_where_dev_rises(inputs: Path) -> None:
    train(config(inputs))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert metrics["kept"] == "trained"
    assert metrics["kept_dev_ndcg_10"] == metrics["best_dev_ndcg_10"] > metrics["base_dev_ndcg_10"]
    assert re.fullmatch(r"step \d+ raised dev nDCG@10 from 0\.\d{4} to [01]\.\d{4}", metrics["kept_reason"])


def test_an_equal_dev_value_keeps_the_base_model() -> None:
    assert choose_weights(Position(best_ndcg=0.5, base_ndcg=0.5, best_step=0)).kept == "base"


def test_without_a_label_that_may_choose_nothing_is_claimed_of_the_last_weights() -> None:
    choice = choose_weights(Position(step=7))
    assert choice.kept == "trained"
    assert "no label may choose" in choice.kept_reason
    assert "kept_dev_ndcg_10" not in choice.as_metrics()


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 4}])
def test_the_share_of_the_trained_weights_is_the_best_on_dev(inputs: Path, settings: dict[str, object]) -> None:
    common = {"dev_human_share": 1.0, **settings}
    train(config(inputs, **common))
    train(config(inputs, output_uri=str(inputs / "mixed"), mixing_shares="0.3, 0.6", **common))
    metrics = read_manifest(str(inputs / "mixed")).metrics
    curve, share = metrics["mixing_curve"], metrics["trained_share"]
    assert list(curve) == ["0.00", "0.30", "0.60", "1.00"]
    assert curve[f"{share:.2f}"] == max(curve.values())
    assert metrics["kept_dev_ndcg_10"] == pytest.approx(curve[f"{share:.2f}"], abs=1e-6)
    names = ("base", "checkpoint", "mixed")
    base, trained, mixed = (checkpoint.load(str(inputs / name)).state_dict() for name in names)
    for name, weight in mixed.items():
        wanted = (1 - share) * base[name] + share * trained[name] if weight.is_floating_point() else trained[name]
        assert torch.allclose(weight, wanted, atol=1e-6)


def test_a_quarter_of_the_way_is_a_quarter_of_the_difference() -> None:
    model = torch.nn.Linear(1, 1)
    base, trained = (
        {"weight": torch.tensor([[weight]]), "bias": torch.tensor([bias])} for weight, bias in ((0.0, 4.0), (8.0, 0.0))
    )
    load_mixture(model, base, trained, 0.25)
    # 0 + .25 * 8 and 4 - .25 * 4.
    assert (model.weight.item(), model.bias.item()) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("shares", "problem"), [("0.5,1", "must be above 0 and below 1"), ("half", "numbers separated by commas")]
)
def test_shares_that_are_none_are_refused(inputs: Path, shares: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        config(inputs, mixing_shares=shares)
