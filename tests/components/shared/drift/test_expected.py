"""What a release expects is measured on queries that nothing was trained on, and is only said where it can be."""

from pathlib import Path

import numpy as np
import pytest

from components.shared.dataset import Dataset, DatasetWriter, write_queries
from components.shared.drift.expected import (
    Expected,
    languages_of,
    measure_expected,
    own_queries,
    read_expected,
    write_expected,
)
from components.shared.encoding.encoder import Encoder
from components.shared.index import open_index
from components.shared.records import Passage, Query
from tests.components.serve.served import PASSAGES, Sources, write_sources

QUERIES = [(Query(f"q{row}", f"the {passage.title}"), "dev") for row, passage in enumerate(PASSAGES)]
QUERIES += [(Query(f"t{row}", f"plain {passage.title}"), "test") for row, passage in enumerate(PASSAGES)]
TRAINED = [(Query(f"l{row}", passage.title), "train") for row, passage in enumerate(PASSAGES)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("asked"), queries=[*QUERIES, *TRAINED])


def test_a_good_hit_scores_as_the_best_hits_of_19_in_20_dev_and_test_queries_do(sources: Sources) -> None:
    encoder = Encoder(Path(sources.encoder_uri), num_threads=1)
    index = open_index(Path(sources.index_uri), encoder_digest=encoder.digest)
    expected = measure_expected(Dataset(Path(sources.dataset_uri)), encoder, index)
    # By hand: all inner products, the best of each query, the value that 5 % lie below.
    products = encoder.encode_queries([query.text for query, _ in QUERIES]) @ encoder.encode_passages(PASSAGES).T
    assert expected.good_score == pytest.approx(np.quantile(products.max(axis=1), 0.05), abs=1e-5)
    assert (expected.num_queries, expected.is_synthetic, expected.languages) == (60, False, ["en"])
    assert "60 dev and test queries of people" in expected.reason


def test_of_too_few_queries_nothing_is_said_but_why(sources: Sources, tmp_path: Path) -> None:
    few = write_sources(tmp_path, queries=QUERIES[:39])
    encoder = Encoder(Path(few.encoder_uri), num_threads=1)
    index = open_index(Path(few.index_uri), encoder_digest=encoder.digest)
    expected = measure_expected(Dataset(Path(few.dataset_uri)), encoder, index)
    assert (expected.good_score, expected.languages) == (None, ["en"])
    assert expected.reason == "39 dev and test queries are too few to say what a good hit is; 40 would do"


@pytest.mark.parametrize(("num_asked", "expected"), [(20, (40, False)), (21, (60, True))])
def test_queries_of_people_count_where_there_are_enough(
    tmp_path: Path, num_asked: int, expected: tuple[int, bool]
) -> None:
    DatasetWriter(tmp_path).finish([], [])
    write_queries(tmp_path, QUERIES, [], asked={f"q{row}" for row in range(num_asked)})
    queries, is_synthetic = own_queries(Dataset(tmp_path))
    assert (len(queries), is_synthetic) == expected


def test_a_query_that_is_a_passage_is_no_good_hit_of_its_own(tmp_path: Path) -> None:
    copies = [(Query(passage.passage_id, passage.full_text), "test") for passage in PASSAGES]
    asked = write_sources(tmp_path, queries=[*copies, *QUERIES[:10]])
    encoder = Encoder(Path(asked.encoder_uri), num_threads=1)
    index = open_index(Path(asked.index_uri), encoder_digest=encoder.digest)
    expected = measure_expected(Dataset(Path(asked.dataset_uri)), encoder, index)
    assert expected.good_score is not None
    # Every copy would score 1 with itself, and 30 of 40 queries are copies.
    products = encoder.encode_queries([query.text for query, _ in copies]) @ encoder.encode_passages(PASSAGES).T
    np.fill_diagonal(products, -1)
    others = encoder.encode_queries([query.text for query, _ in QUERIES[:10]]) @ encoder.encode_passages(PASSAGES).T
    best = np.concatenate([products.max(axis=1), others.max(axis=1)])
    assert expected.good_score == pytest.approx(np.quantile(best, 0.05), abs=1e-5)


def test_the_languages_are_those_of_passages_and_queries(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    for number in range(6):
        writer.add_passage(Passage(str(number), "", "The tide in the bay rises as the moon pulls on it."))
    writer.finish([(Query("q", "Warum ist die Flut am Abend nicht so hoch wie am Morgen?"), "train")], [])
    assert languages_of(Dataset(tmp_path)) == ["en", "de"]


def test_it_lies_beside_the_index_and_an_index_of_before_has_none(tmp_path: Path) -> None:
    assert read_expected(tmp_path) is None
    expected = Expected(0.25, 60, True, ["en", "de"], "measured")
    write_expected(tmp_path, expected)
    assert read_expected(tmp_path) == expected
    (tmp_path / "expected.json").write_text('{"good": 1}')
    with pytest.raises(ValueError, match=r"expected.json: not of this version .* build the index again"):
        read_expected(tmp_path)
