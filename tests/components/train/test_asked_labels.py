"""Asked queries in training: they cost no person anything, so no share limits them, and none counts as human."""

from components.train.labels.groups import share_of

_POSITIVES = {f"q{number}": [f"p{number}"] for number in range(10)} | {
    f"a{number}": [f"p{number}"] for number in range(5)
}
_ASKED = frozenset(f"a{number}" for number in range(5))


def test_the_human_share_is_of_people_s_queries_and_all_asked_ones_are_known() -> None:
    known = share_of(_POSITIVES, 0.2, seed=1, asked=_ASKED)
    # A fifth of ten queries of people.
    assert len(set(known) - _ASKED) == 2
    assert set(known) >= _ASKED
    assert set(known) - _ASKED == set(share_of({q: p for q, p in _POSITIVES.items() if q not in _ASKED}, 0.2, seed=1))


def test_a_run_without_a_share_knows_none_of_them() -> None:
    assert share_of(_POSITIVES, 0.0, seed=1, asked=_ASKED) == {}


def test_a_corpus_with_asked_queries_alone_has_no_human_one_to_know() -> None:
    only_asked = {query_id: _POSITIVES[query_id] for query_id in _ASKED}
    assert share_of(only_asked, 0.2, seed=1, asked=_ASKED) == only_asked
