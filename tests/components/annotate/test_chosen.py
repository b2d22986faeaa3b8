"""Which pools the LLM is paid for: a seeded draw of train queries, all held-out ones, and the same for every shard."""

from pathlib import Path

from components.annotate.chosen import ChosenPools
from components.shared.dataset import Dataset
from components.shared.records import Passage, Pool, Query
from tests.components.annotate.inputs import job_config, write_dataset, write_pools


def write_queries(folder: Path) -> None:
    """q0 .. q19 train, q20 and q21 dev, q22 test; a pool each."""
    splits = ["train"] * 20 + ["dev", "dev", "test"]
    queries = [(Query(f"q{number}", f"query {number}"), split) for number, split in enumerate(splits)]
    write_dataset(folder / "dataset", [Passage("p0", "", "tide"), Passage("p1", "", "moon")], queries, [])
    write_pools(folder / "pools", [Pool(query.query_id, ("p0", "p1"), ("bm25",) * 2, 1) for query, _ in queries])


def chosen(folder: Path, **settings: object) -> ChosenPools:
    path = folder / "pools" / "pools.jsonl"
    return ChosenPools(path, Dataset(folder / "dataset"), job_config(folder, **settings))


def ids(pools: ChosenPools) -> list[str]:
    return [pool.query_id for pool in pools]


def test_as_many_train_queries_as_asked_and_every_held_out_one(tmp_path: Path) -> None:
    write_queries(tmp_path)
    drawn = ids(chosen(tmp_path, num_queries=5))
    assert drawn[-3:] == ["q20", "q21", "q22"]
    assert len(drawn) == 8
    assert ids(chosen(tmp_path)) == [f"q{number}" for number in range(23)]
    assert ids(chosen(tmp_path, num_queries=500)) == ids(chosen(tmp_path))


def test_a_larger_budget_keeps_what_was_paid_for(tmp_path: Path) -> None:
    write_queries(tmp_path)
    assert set(ids(chosen(tmp_path, num_queries=5))) < set(ids(chosen(tmp_path, num_queries=9)))
    assert ids(chosen(tmp_path, num_queries=5)) != ids(chosen(tmp_path, num_queries=5, seed=7))


def test_shards_share_the_chosen_pools_without_overlap(tmp_path: Path) -> None:
    write_queries(tmp_path)
    shards = [chosen(tmp_path, num_queries=6, num_shards=3, shard=shard).of_shard() for shard in range(3)]
    dealt = [[pool.query_id for pool in shard] for shard in shards]
    assert sorted(query_id for shard in dealt for query_id in shard) == sorted(ids(chosen(tmp_path, num_queries=6)))
    assert [len(shard) for shard in dealt] == [3, 3, 3]
