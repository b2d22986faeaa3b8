"""BERTScore with a real encoder; skipped where its extra is not installed."""

from pathlib import Path

import pytest

from components.answer.scoring.bertscore import bertscore, bertscore_signature

bert_score = pytest.importorskip("bert_score", reason="the extra bertscore is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_best_reference_counts_and_nothing_said_is_worth_nothing(minilm: Path) -> None:
    answers = ["a blue whale", "the capital is Paris", "", "yes"]
    references = [["large animal", "a blue whale"], ["Paris is the capital"], ["Paris"], ["yes", ""]]
    values = bertscore(answers, references, encoder_uri=str(minilm), layer=5)
    assert values[0] == pytest.approx(1.0, abs=1e-4)
    assert values[3] == pytest.approx(1.0, abs=1e-4)
    assert 0.6 < values[1] < 1.0
    assert values[2] == 0.0
    scorer = bert_score.BERTScorer(model_type=str(minilm), num_layers=5)
    expected = scorer.score(["the capital is Paris"], ["Paris is the capital"])[2].item()
    assert values[1] == pytest.approx(expected, abs=1e-5)
    assert "layer:5" in bertscore_signature(str(minilm), 5)


def test_a_layer_that_the_encoder_does_not_have_is_refused(minilm: Path) -> None:
    with pytest.raises(ValueError, match="no encoder with a layer 99"):
        bertscore(["a"], [["a"]], encoder_uri=str(minilm), layer=99)


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no encoder with a layer 3"):
        bertscore(["a"], [["a"]], encoder_uri=str(tmp_path / "nowhere"), layer=3)
