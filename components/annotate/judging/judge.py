"""How one query's pool becomes labels: the judge of each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from components.annotate.config import AnnotateConfig, Method
from components.annotate.judging.inquiry import FailedError, Inquiry, Judge
from components.annotate.judging.likelihoods import answer_likelihood, query_likelihood, replug
from components.annotate.judging.listwise import utility_labels
from components.shared.calls.asks import RefusedError
from components.shared.records import Query

_JUDGES: Mapping[Method, Callable[[Inquiry], Judge]] = {
    "utility_selection": utility_labels,
    "utility_ranking": utility_labels,
    "query_likelihood": query_likelihood,
    "answer_likelihood": answer_likelihood,
    "replug": replug,
}


def judge(query: Query, passages: Sequence[str], config: AnnotateConfig, *, can_constrain: bool) -> Judge:
    """The judge of the configured method for one query; passages are cut and cleaned already, in pool order.

    `can_constrain` says whether the engine keeps a reply to a pattern.
    """
    inquiry = Inquiry(query, passages, config, can_constrain=can_constrain)
    try:
        return (yield from _JUDGES[config.method](inquiry))
    except RefusedError as refused:
        return inquiry.verdict("refused", detail=str(refused))
    except FailedError as failed:
        return inquiry.verdict(failed.outcome, detail=failed.detail, completion=failed.completion)
