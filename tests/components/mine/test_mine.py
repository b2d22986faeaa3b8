"""Pools: who is in them, in which order, and who never is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.mine.config import MineConfig
from components.mine.job import choose_queries, mine
from components.mine.pools import make_pool
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer
from components.shared.records import Hit, Passage, Pool, Qrel, Query, read_records
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index


def config(tmp_path: Path = Path("/nowhere"), **settings: object) -> MineConfig:
    places = {f"{name}_uri": str(tmp_path / name) for name in ("dataset", "encoder", "index")}
    return MineConfig(**{**places, "output_uri": str(tmp_path / "pools"), "num_bm25": 2, "num_dense": 2, **settings})  # type: ignore[arg-type]


def hits(*passage_ids: str) -> list[Hit]:
    return [Hit(passage_id, 1.0 / rank) for rank, passage_id in enumerate(passage_ids, start=1)]


def members(pool: Pool) -> dict[str, str]:
    return dict(zip(pool.passage_ids, pool.sources, strict=True))


def test_dense_hits_fill_up_behind_those_bm25_found() -> None:
    pool = make_pool("q", bm25=hits("a", "b", "c"), dense=hits("b", "c", "d"), positives=[], config=config())
    assert members(pool) == {"a": "bm25", "b": "bm25+dense", "c": "dense", "d": "dense"}


def test_a_known_positive_is_human_and_takes_no_negatives_place() -> None:
    pool = make_pool("q", bm25=hits("x", "a", "b"), dense=hits("x", "c", "d"), positives=["x"], config=config())
    assert members(pool) == {"a": "bm25", "b": "bm25", "c": "dense", "d": "dense", "x": "human"}


def test_as_retrieved_leaves_out_a_positive_that_nobody_found() -> None:
    its = config(human_positive="as_retrieved")
    pool = make_pool("q", bm25=hits("x", "a"), dense=hits("b"), positives=["x", "y"], config=its)
    assert members(pool) == {"x": "human", "a": "bm25", "b": "dense"}


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefgh"), unique=True), st.sets(st.sampled_from("abc"))
)
def test_no_passage_twice_and_positives_are_human_only(bm25: list[str], dense: list[str], positives: set[str]) -> None:
    pool = make_pool("q", bm25=hits(*bm25), dense=hits(*dense), positives=sorted(positives), config=config())
    assert len(set(pool.passage_ids)) == len(pool.passage_ids) <= 4 + len(positives)
    assert {p for p, source in members(pool).items() if source == "human"} == positives


def test_the_order_depends_on_seed_and_query_only() -> None:
    many = hits(*"abcdefghijklmnop")
    wide = config(num_bm25=16)
    first = make_pool("q", bm25=many, dense=[], positives=[], config=wide)
    assert make_pool("q", bm25=many, dense=[], positives=[], config=wide) == first
    assert make_pool("r", bm25=many, dense=[], positives=[], config=wide).passage_ids != first.passage_ids
    assert make_pool("q", bm25=many, dense=[], positives=[], config=config(num_bm25=16, seed=7)).passage_ids != first.passage_ids


def write_dataset(folder: Path, *, judged: bool) -> Path:
    folder.mkdir()
    writer = DatasetWriter(folder)
    texts = [f"{animal} eats {food}" for animal in ("cat", "dog", "owl") for food in ("fish", "mice", "corn")]
    for number, text in enumerate(texts):
        writer.add_passage(Passage(f"p{number}", "", text))
    queries = [(Query(f"q{n}", text), ("train", "train", "dev", "test")[n % 4]) for n, text in enumerate(texts)]
    writer.finish(queries, [(Qrel(q.query_id, f"p{n}", 1), split) for n, (q, split) in enumerate(queries) if judged])
    return folder


def write_inputs(tmp_path: Path, *, judged: bool) -> None:
    from components.prepare.config import PrepareConfig

    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(tmp_path / "dataset"))) as artifact:
        write_dataset(artifact.path / "made", judged=judged)
        for path in (artifact.path / "made").iterdir():
            path.rename(artifact.path / path.name)
        (artifact.path / "made").rmdir()
    texts = [passage.text for passage in Dataset(tmp_path / "dataset").iter_passages()]
    encoder = write_tiny_encoder(tmp_path / "encoder", 1, words_of(texts))
    write_tiny_index(tmp_path / "index", dataset=tmp_path / "dataset", encoder=encoder)


def test_the_job_writes_a_pool_for_each_train_query(tmp_path: Path) -> None:
    write_inputs(tmp_path, judged=True)
    mine(config(tmp_path))
    pools = list(read_records(tmp_path / "pools" / "pools.jsonl", Pool))
    assert [pool.query_id for pool in pools] == ["q0", "q1", "q4", "q5", "q8"]
    assert all(members(pool)[f"p{pool.query_id[1:]}"] == "human" for pool in pools)
    before = (tmp_path / "pools" / "pools.jsonl").read_bytes()
    mine(config(tmp_path))
    assert (tmp_path / "pools" / "pools.jsonl").read_bytes() == before


def test_splits_that_nobody_judged_get_pools_too(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path / "plain", judged=False))
    chosen = choose_queries(dataset, config(num_queries=2, num_evaluation_queries=1))
    splits = [{"q2": "dev", "q6": "dev", "q3": "test", "q7": "test"}.get(query.query_id, "train") for query in chosen]
    assert splits == ["train", "train", "dev", "test"]


def test_a_dataset_without_queries_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, judged=True)
    empty = tmp_path / "none"
    empty.mkdir()
    writer = DatasetWriter(empty)
    writer.add_passage(Passage("p", "", "cat"))
    writer.finish([], [])
    assert choose_queries(Dataset(empty), config()) == []


def test_an_index_of_another_encoder_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, judged=True)
    write_tiny_encoder(tmp_path / "other", 2, ["cat", "dog"])
    with pytest.raises(ValueError, match="their vectors do not mix"):
        mine(config(tmp_path, encoder_uri=str(tmp_path / "other")))
