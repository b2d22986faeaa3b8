"""The loss of vectors that may be cut is taken at every cut, and a model that is taught so keeps its cuts."""

import json
from pathlib import Path

import pytest
import torch

from components.shared import checkpoint
from components.shared.checkpoint import DualEncoderSettings
from components.shared.manifest import read_manifest
from components.train.job import train
from components.train.loop.cuts import loss_over_cuts
from tests.components.train.learnable import config

_SETTINGS = {"pooling": "mean", "query_prefix": "", "passage_prefix": "", "query_tokens": 8, "passage_tokens": 8}
# One query, two passages.
_VECTORS = torch.tensor([[3.0, 4.0, 0.0], [0.0, 5.0, 12.0], [8.0, 6.0, 0.0]])


def _settings(*cuts: int, normalise: bool) -> DualEncoderSettings:
    return DualEncoderSettings(**_SETTINGS, normalise=normalise, matryoshka=cuts)  # type: ignore[arg-type]


def test_the_loss_is_the_weighted_mean_over_whole_and_cut_vectors() -> None:
    # Whole: 4 * 5 and 3 * 8 + 4 * 6, together 68. Of two components the same; of one 0 and 24.
    def total(scores: torch.Tensor) -> torch.Tensor:
        return scores.sum()

    cuts = _settings(2, 1, normalise=False)
    assert loss_over_cuts(_VECTORS, 1, total, settings=cuts, weights=()).item() == pytest.approx((68 + 68 + 24) / 3)
    weighted = loss_over_cuts(_VECTORS, 1, total, settings=cuts, weights=(1.0, 1.0, 2.0)).item()
    assert weighted == pytest.approx((68 + 68 + 2 * 24) / 4)
    whole = loss_over_cuts(_VECTORS, 1, total, settings=_settings(normalise=False), weights=())
    assert whole.item() == 68


def test_cut_vectors_are_scaled_again_where_the_encoder_scales() -> None:
    unit = _VECTORS / _VECTORS.norm(dim=1, keepdim=True)
    seen: list[torch.Tensor] = []

    def keep(scores: torch.Tensor) -> torch.Tensor:
        seen.append(scores)
        return scores.sum()

    loss_over_cuts(unit, 1, keep, settings=_settings(2, normalise=True), weights=())
    # Of two components: (0.6, 0.8) against (0, 1) and (0.8, 0.6).
    torch.testing.assert_close(seen[1], torch.tensor([[0.8, 0.96]]))


def test_training_keeps_the_cuts_and_makes_them_better(inputs: Path) -> None:
    train(config(inputs, matryoshka="4", output_uri=str(inputs / "cut")))
    train(config(inputs, matryoshka="none", output_uri=str(inputs / "whole")))
    cut, whole = (checkpoint.load(str(inputs / name)) for name in ("cut", "whole"))
    assert (cut.settings.matryoshka, whole.settings.matryoshka) == ((4,), ())
    assert json.loads((inputs / "cut" / "config.json").read_text())["matryoshka_dimensions"] == [4]
    assert "matryoshka" not in (inputs / "whole" / "config.json").read_text()
    assert _loss_of_four(inputs, cut) < _loss_of_four(inputs, whole)


def test_a_checkpoint_that_was_cut_is_trained_on_cut_vectors(inputs: Path) -> None:
    train(config(inputs, dimensions=8))
    trained = checkpoint.load(str(inputs / "checkpoint"))
    assert (trained.dimension, trained.settings.dimensions) == (8, 8)
    assert read_manifest(str(inputs / "checkpoint")).metrics["best_dev_ndcg_10"] > 0


def test_weights_that_are_not_one_for_each_length_are_refused_before_training(inputs: Path) -> None:
    with pytest.raises(ValueError, match=r"2 weights, but the model is taught at 3 numbers of dimensions \(32, 8, 4\)"):
        train(config(inputs, matryoshka="8,4", matryoshka_weights="1,1"))
    with pytest.raises(ValueError, match="matryoshka_weights '1,x': write numbers above 0"):
        config(inputs, matryoshka_weights="1,x")


def test_settings_that_a_checkpoint_does_otherwise_are_refused_before_training(inputs: Path) -> None:
    with pytest.raises(ValueError, match="query_prefix 'ask: ' is asked for, the model has 'query: '"):
        train(config(inputs, query_prefix="ask: "))


def _loss_of_four(inputs: Path, model: checkpoint.DualEncoder) -> float:
    """How far the queries' own passages are from ranking first, by four components."""
    from components.shared.dataset import Dataset

    dataset = Dataset(inputs / "dataset")
    queries = [query.text for query in dataset.queries("train")]
    wanted = [next(iter(dataset.positives("train")[query.query_id])) for query in dataset.queries("train")]
    model.eval()
    with torch.inference_mode():
        vectors = [
            torch.nn.functional.normalize(model(*model.pad(token_ids))[:, :4], dim=1)
            for token_ids in (
                model.tokenize_queries(queries),
                model.tokenize_passages([dataset.passage(p).full_text for p in wanted]),
            )
        ]
    scores = vectors[0] @ vectors[1].T / 0.1
    return float(torch.nn.functional.cross_entropy(scores, torch.arange(len(queries))))
