"""Utility of a passage as a likelihood: what still works with a model too small to follow listwise instructions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.annotate.config import AnnotateConfig
from components.annotate.judging import prompting
from components.annotate.judging.inquiry import FailedError, Inquiry, Judge
from components.annotate.judging.listwise import pseudo_answer
from components.annotate.judging.methods import METHODS
from components.shared.engines.engine import Likelihood
from components.shared.records import Label

LAYOUT = "likelihood"


def query_likelihood(inquiry: Inquiry) -> Judge:
    """Log P(query | passage), averaged over the query's tokens: what works with models of a hundred million weights."""
    return (yield from _weighed(inquiry, "query_likelihood"))


def answer_likelihood(inquiry: Inquiry) -> Judge:
    """Log P(pseudo-answer | query, passage); label-free: the LLM writes the answer from the pool's first window."""
    answer = yield from pseudo_answer(inquiry, range(min(inquiry.config.window, len(inquiry.passages))))
    return (yield from _weighed(inquiry, "answer_likelihood", answer))


def replug(inquiry: Inquiry) -> Judge:
    """Log P(the collection's answer | query, passage), and its softmax over the pool.

    Source: [ufa] section 4, REPLUG baseline.
    """
    if not inquiry.query.answers:
        raise FailedError("unparseable", "the collection has no answer to this query, which replug needs", "")
    return (yield from _weighed(inquiry, "answer_likelihood", inquiry.query.answers[0]))


def _weighed(inquiry: Inquiry, template: str, answer: str = "") -> Judge:
    config, query = inquiry.config, inquiry.query.text
    requests = [
        prompting.likelihood(template, key="", query=query, passage=passage, answer=answer)
        for passage in inquiry.passages
    ]
    ask = inquiry.ask(template, layout=LAYOUT, rung="first", positions=range(len(requests)), requests=requests)
    (results,) = yield [ask]
    sums, means = [], []
    for result in results:
        assert isinstance(result, Likelihood)
        sums.append(math.fsum(result.logprobs))
        means.append(sums[-1] / len(result.logprobs))
    labels = likelihood_labels(means, config)
    inquiry.note(
        ask, results, outcome="ok", chosen=[place for place, label in enumerate(labels) if label == "positive"]
    )
    is_mean = METHODS[config.method].per_token and config.likelihood == "mean"
    return inquiry.verdict(
        "ok", labels, scores=means, score_sums=sums, distribution=softmax(means if is_mean else sums)
    )


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares that add up to 1, in the order of the scores."""
    highest = max(scores, default=0.0)
    weights = [math.exp(score - highest) for score in scores]
    return [weight / math.fsum(weights) for weight in weights]


def likelihood_labels(scores: Sequence[float], config: AnnotateConfig) -> tuple[Label, ...]:
    """Three-way labels by the distance to the pool's best score, in nats per token."""
    best = max(scores, default=0.0)
    labels: list[Label] = []
    for score in scores:
        if best - score <= config.positive_margin:
            labels.append("positive")
        else:
            labels.append("ignore" if best - score <= config.ignore_margin else "negative")
    return tuple(labels)
