"""Records and their lines: what is written is read back, what does not hold is refused with its line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.records import (
    LABELS,
    Annotation,
    Exchange,
    Hit,
    Passage,
    Pool,
    Qrel,
    Query,
    RecordError,
    read_records,
    to_line,
    write_records,
)

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # lone surrogates are no UTF-8
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_LISTS = st.lists(_TEXTS, max_size=3).map(tuple)
_IDS = st.lists(_TEXTS, unique=True, max_size=5).map(tuple)
# Fields of a record, not records: beartype draws random numbers when one is made, which hypothesis does not allow
# inside.
_QUERIES = st.tuples(st.just(Query), st.fixed_dictionaries({"query_id": _TEXTS, "text": _TEXTS, "answers": _LISTS}))
_PASSAGES = st.tuples(st.just(Passage), st.fixed_dictionaries({"passage_id": _TEXTS, "title": _TEXTS, "text": _TEXTS}))
_QRELS = st.tuples(
    st.just(Qrel), st.fixed_dictionaries({"query_id": _TEXTS, "passage_id": _TEXTS, "grade": st.integers(0, 3)})
)
_HITS = st.tuples(st.just(Hit), st.fixed_dictionaries({"passage_id": _TEXTS, "score": _FLOATS}))
_PLACES = st.lists(st.integers(0, 30), max_size=3).map(tuple)
_EXCHANGES = st.fixed_dictionaries(
    dict.fromkeys(("template", "template_version", "rung", "outcome"), _TEXTS)
    | {"positions": _PLACES, "chosen": _PLACES, "calls": _LISTS}
)
_ANNOTATED = dict.fromkeys(("query_id", "method", "model", "outcome"), _TEXTS) | {
    "exchanges": st.lists(_EXCHANGES, max_size=2),
    "prompt_tokens": st.integers(0, 2**40),
}


def _columns(ids: tuple[str, ...]) -> Any:
    labels = st.lists(st.sampled_from(LABELS), min_size=len(ids), max_size=len(ids)).map(tuple)
    scores = st.lists(_FLOATS, max_size=3).map(tuple)
    annotation = st.fixed_dictionaries({**_ANNOTATED, "passage_ids": st.just(ids), "labels": labels, "scores": scores})
    pool = {
        "query_id": _TEXTS,
        "passage_ids": st.just(ids),
        "sources": st.just(("bm25",) * len(ids)),
        "seed": st.integers(0, 2**31),
    }
    return st.one_of(st.tuples(st.just(Annotation), annotation), st.tuples(st.just(Pool), st.fixed_dictionaries(pool)))


@settings(max_examples=200)
@given(st.one_of(_QUERIES, _PASSAGES, _QRELS, _HITS, _IDS.flatmap(_columns)))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, row: tuple[type[Any], dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "records.jsonl"
    values = dict(row[1])
    if "exchanges" in values:
        values["exchanges"] = tuple(Exchange(**exchange) for exchange in values["exchanges"])
    record = row[0](**values)
    assert write_records(path, [record, record]) == 2
    assert list(read_records(path, row[0])) == [record, record]


def test_equal_records_give_equal_bytes() -> None:
    assert to_line(Query("q", "t", ("a",))) == b'{"query_id":"q","text":"t","answers":["a"],"topic":""}\n'


_POOL = '{"query_id": "q", "passage_ids": ["a", "b"], "sources": ["bm25", "human"], "seed": 1}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "not a Pool record"),
        ("{", "not a Pool record"),
        ("3", "not a Pool record"),
        ("null", "not a Pool record"),
        ("[1, 2]", "not a Pool record"),
        ('"text"', "not a Pool record"),
        (_POOL[:-9], "not a Pool record"),
        (_POOL.replace('"seed": 1', '"sead": 1'), "unknown fields ['sead']"),
        (_POOL.replace(', "seed": 1', ""), "missing fields ['seed']"),
        (_POOL.replace('["a", "b"]', '["a", "a"]'), "names a passage twice"),
        (_POOL.replace('["a", "b"]', '["a"]'), "columns of different lengths"),
        (_POOL.replace('["a", "b"]', '"ab"'), "passage_ids is 'ab'"),
        (_POOL.replace('["a", "b"]', '["a", 7]'), "passage_ids is ['a', 7]"),
        (_POOL.replace('"q"', "7"), "query_id is 7"),
        (_POOL.replace('"seed": 1', '"seed": true'), "seed is True"),
    ],
)
def test_a_line_that_does_not_hold_is_refused_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "pools.jsonl"
    path.write_text(f"{_POOL}\n{line}\n{_POOL}\n")
    records = read_records(path, Pool)
    assert next(records).seed == 1
    with pytest.raises(RecordError) as caught:
        next(records)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert problem in str(caught.value)
    assert "delete the artifact's folder" in str(caught.value)


def test_a_line_of_bad_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_bytes(b'{"query_id": "q", "text": "\xff"}\n')
    with pytest.raises(RecordError, match=r":1: not a Query record"):
        list(read_records(path, Query))


@pytest.mark.parametrize(
    ("written", "changed"),
    [('"rung":"first"', '"rung":7'), ('"positions":[0,1]', '"positions":["0"]'), ('"chosen":[1],', "")],
)
def test_an_exchange_that_does_not_hold_is_refused(tmp_path: Path, written: str, changed: str) -> None:
    path = tmp_path / "annotations.jsonl"
    exchange = Exchange("utility_selection", "paper.1@0f", "first", "ok", (0, 1), (1,), ("key",))
    line = to_line(
        Annotation("q", ("a", "b"), ("negative", "positive"), "utility_selection", "m", "ok", exchanges=(exchange,))
    ).decode()
    assert written in line
    path.write_text(line + line.replace(written, changed))
    records = read_records(path, Annotation)
    assert next(records).calls == ("key",)
    with pytest.raises(RecordError, match=r":2: not a Annotation record"):
        next(records)


def test_an_unknown_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "annotations.jsonl"
    line = to_line(Annotation("q", ("a",), ("positive",), "utility_selection", "m", "ok"))
    path.write_bytes(line.replace(b"positive", b"useful"))
    with pytest.raises(RecordError, match=r":1: .*useful"):
        list(read_records(path, Annotation))


def test_passages_of_a_label_keep_the_order_of_the_pool() -> None:
    annotation = Annotation("q", ("c", "a", "b"), ("positive", "negative", "positive"), "utility_selection", "m", "ok")
    assert annotation.with_label("positive") == ("c", "b")
    assert annotation.with_label("ignore") == ()


def test_a_title_is_part_of_what_is_read() -> None:
    assert Passage("p", "Volcano", "It erupts.").full_text == "Volcano It erupts."
    assert Passage("p", "", "It erupts.").full_text == "It erupts."
