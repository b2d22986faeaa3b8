"""A passage that a query was asked about is no human positive, and no hard negative either."""

from components.mine.config import MineConfig
from components.mine.pools import ASKED, HUMAN, make_pool
from components.shared.records import Hit

_CONFIG = MineConfig(dataset_uri="", encoder_uri="", index_uri="", output_uri="", num_bm25=2, num_dense=2)


def test_the_source_passage_of_an_asked_query_says_so_in_the_pool() -> None:
    hits = [Hit("p1", 3.0), Hit("p2", 2.0)]
    for known_as in (HUMAN, ASKED):
        pool = make_pool("q", bm25=hits, dense=[], positives=["p1"], config=_CONFIG, known_as=known_as).pool
        assert dict(zip(pool.passage_ids, pool.sources, strict=True)) == {"p1": known_as, "p2": "bm25"}
