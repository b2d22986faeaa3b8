"""Likelihood annotators against arithmetic by hand and against a forward pass of the model written out here."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.annotate.job import annotate
from components.annotate.judging.likelihoods import likelihood_labels, softmax
from components.shared.dataset import Dataset
from components.shared.records import Annotation, read_records
from tests.components.annotate.fake_engine import config
from tests.components.annotate.inputs import job_config, write_inputs
from tests.tiny_llm import write_tiny_llm


def test_a_softmax_by_hand() -> None:
    # e^0 : e^-ln2 : e^-ln4 = 4 : 2 : 1.
    assert softmax([-1.0, -1.0 - math.log(2), -1.0 - math.log(4)]) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert softmax([-1e5, -1e5]) == [0.5, 0.5]
    assert softmax([]) == []


def test_margins_are_counted_from_the_best_of_the_pool() -> None:
    its = config(positive_margin=0.5, ignore_margin=1.0)
    assert likelihood_labels((-2.0, -2.5, -3.0, -3.1), its) == ("positive", "positive", "ignore", "negative")


@pytest.mark.parametrize("likelihood", ["mean", "sum"])
def test_replug_is_the_log_likelihood_of_a_forward_pass(tmp_path: Path, likelihood: str) -> None:
    write_inputs(tmp_path, num_queries=4, with_answers=True)
    dataset = Dataset(tmp_path / "dataset")
    words = sorted(
        {word for passage in dataset.iter_passages() for word in passage.text.split()}
        | {"query", "about", "Question", "Answer", ":"}
    )
    llm = write_tiny_llm(tmp_path / "llm", words)
    annotate(job_config(tmp_path, llm_uri=str(llm), engine="transformers", method="replug", likelihood=likelihood))
    tokenizer, model = AutoTokenizer.from_pretrained(llm), AutoModelForCausalLM.from_pretrained(llm).eval()
    annotations = list(read_records(tmp_path / "annotations" / "annotations.jsonl", Annotation))
    assert len(annotations) == 4
    for annotation in annotations:
        query = dataset.query(annotation.query_id)
        sums, means = [], []
        for passage_id in annotation.passage_ids:
            context = tokenizer(f"{dataset.passage(passage_id).text}\n\nQuestion: {query.text}\nAnswer:").input_ids
            answer = tokenizer(f" {query.answers[0]}", add_special_tokens=False).input_ids
            with torch.no_grad():
                logprobs = model(torch.tensor([context + answer])).logits[0].log_softmax(-1)
            # The token at place t is predicted at place t - 1.
            its = [logprobs[len(context) + place - 1, token].item() for place, token in enumerate(answer)]
            sums.append(sum(its))
            means.append(sum(its) / len(its))
        assert annotation.score_sums == pytest.approx(sums, abs=1e-4)
        assert annotation.scores == pytest.approx(means, abs=1e-4)
        basis = torch.tensor(sums if likelihood == "sum" else means)
        assert annotation.distribution == pytest.approx(basis.softmax(0).tolist(), abs=1e-4)


def test_replug_without_answers_says_what_is_missing_and_what_needs_none(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=4)
    llm = write_tiny_llm(tmp_path / "llm", ["query", "about"])
    with pytest.raises(
        ValueError, match=r"none of 4 pools .* the collection has no answer .* query_likelihood needs neither answers"
    ):
        annotate(job_config(tmp_path, llm_uri=str(llm), engine="transformers", method="replug"))
    assert not (tmp_path / "annotations" / "manifest.json").exists()
