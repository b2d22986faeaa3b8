"""Pools: who is in them, in which order, and who never is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.mine.blocks import Miner
from components.mine.config import MineConfig
from components.mine.job import choose_queries, mine
from components.mine.pools import Mined, make_pool
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.own_passage import same_text
from components.shared.records import Hit, Passage, Pool, Qrel, Query, read_records
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index


def config(tmp_path: Path = Path("/nowhere"), **settings: object) -> MineConfig:
    places = {f"{name}_uri": str(tmp_path / name) for name in ("dataset", "encoder", "index")}
    return MineConfig(**{**places, "output_uri": str(tmp_path / "pools"), "num_bm25": 2, "num_dense": 2, **settings})  # type: ignore[arg-type]


def hits(*passage_ids: str) -> list[Hit]:
    return [Hit(passage_id, 1.0 / rank) for rank, passage_id in enumerate(passage_ids, start=1)]


def made(query_id: str = "q", **inputs: Any) -> Pool:
    return make_pool(query_id, **inputs).pool


def members(pool: Pool) -> dict[str, str]:
    return dict(zip(pool.passage_ids, pool.sources, strict=True))


def test_dense_hits_fill_up_behind_those_bm25_found() -> None:
    pool = made("q", bm25=hits("a", "b", "c"), dense=hits("b", "c", "d"), positives=[], config=config())
    assert members(pool) == {"a": "bm25", "b": "bm25+dense", "c": "dense", "d": "dense"}


def test_a_known_positive_is_human_and_takes_no_negatives_place() -> None:
    pool = made("q", bm25=hits("x", "a", "b"), dense=hits("x", "c", "d"), positives=["x"], config=config())
    assert members(pool) == {"a": "bm25", "b": "bm25", "c": "dense", "d": "dense", "x": "human"}


def test_as_retrieved_leaves_out_a_positive_that_nobody_found() -> None:
    retrieved = config(human_positive="as_retrieved")
    pool = made("q", bm25=hits("x", "a"), dense=hits("b"), positives=["x", "y"], config=retrieved)
    assert members(pool) == {"x": "human", "a": "bm25", "b": "dense"}


@pytest.mark.parametrize(
    ("bm25", "dense", "human"),
    [
        # Two places in each ranking.
        ("xab", "cd", "x"),
        ("axb", "cd", "x"),
        ("abx", "cd", ""),
        ("abcdefgx", "", ""),
        ("ab", "cx", "x"),
        ("ab", "cdx", ""),
        # a and b have places of BM25, so in the dense ranking x is the first that needs one.
        ("ab", "abx", "x"),
        # A positive takes a place from another positive too.
        ("xyz", "", "xy"),
        ("xa", "xyb", "xy"),
        # Another id of the positive's text is the positive.
        ("Xa", "cd", "x"),
    ],
)
def test_as_retrieved_looks_as_deep_as_the_pool(bm25: str, dense: str, human: str) -> None:
    its = config(human_positive="as_retrieved", depth=100)
    pool = made("q", bm25=hits(*bm25), dense=hits(*dense), positives=list("xyz"), config=its, text_of=str.casefold)
    assert {p for p, source in members(pool).items() if source == "human"} == set(human)
    assert len(pool.passage_ids) - len(human) == len(
        {*[p for p in bm25 if p.casefold() not in "xyz"][:2]} | {*[p for p in dense if p not in "xyz" + bm25[:2]][:2]}
    )


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.sets(st.sampled_from("abc")),
)
def test_no_passage_twice_and_positives_are_human_only(bm25: list[str], dense: list[str], positives: set[str]) -> None:
    pool = made("q", bm25=hits(*bm25), dense=hits(*dense), positives=sorted(positives), config=config())
    assert len(set(pool.passage_ids)) == len(pool.passage_ids) <= 4 + len(positives)
    assert {p for p, source in members(pool).items() if source == "human"} == positives


def test_the_order_depends_on_seed_and_query_only() -> None:
    many = hits(*"abcdefghijklmnop")
    wide = config(num_bm25=16)
    first = made("q", bm25=many, dense=[], positives=[], config=wide)
    assert made("q", bm25=many, dense=[], positives=[], config=wide) == first
    assert made("r", bm25=many, dense=[], positives=[], config=wide).passage_ids != first.passage_ids
    assert (
        made("q", bm25=many, dense=[], positives=[], config=config(num_bm25=16, seed=7)).passage_ids
        != first.passage_ids
    )


def mined(**inputs: Any) -> Mined:
    return make_pool("q", **{"dense": [], "positives": [], "config": config(), **inputs})


def test_a_positive_under_another_id_is_no_negative() -> None:
    texts = {"x": "The cat.", "x2": "the  CAT.", "a": "a dog"}
    result = mined(bm25=hits("x2", "a"), positives=["x"], text_of=lambda p: same_text(texts[p]))
    assert members(result.pool) == {"x": "human", "a": "bm25"}
    assert result.dropped == {"text_of_a_positive": 1}


def test_a_text_is_in_a_pool_once() -> None:
    texts = {"a": "one", "b": "one", "c": "two", "x": "three", "y": "three"}
    result = mined(bm25=hits("a", "b"), dense=hits("b", "c"), positives=["x", "y"], text_of=texts.__getitem__)
    assert members(result.pool) == {"a": "bm25", "c": "dense", "x": "human"}
    assert result.dropped == {"duplicate": 2}


def test_the_margin_drops_what_scores_like_the_best_positive() -> None:
    # The best positive scores 0.8, so the limit is 0.95 * 0.8 = 0.76. n has no score: nobody can say, so it is dropped.
    scores = {"x": 0.8, "y": 0.3, "a": 0.77, "b": 0.75, "c": 0.9, "d": 0.1}
    inputs = {"bm25": hits("a", "b", "n"), "dense": hits("c", "d"), "positives": ["x", "y"], "scores": scores}
    result = mined(**inputs, config=config(relative_margin=0.95))
    assert members(result.pool) == {"b": "bm25", "d": "dense", "x": "human", "y": "human"}
    assert result.dropped == {"margin": 3}
    assert (result.num_scored, result.num_suspected) == (2, 0)
    unfiltered = mined(**inputs)
    # a and b from BM25, c and d dense; a and c are above the limit.
    assert (unfiltered.num_scored, unfiltered.num_suspected) == (4, 2)


@pytest.mark.parametrize("positive_score", [-0.2, 0.0])
def test_a_share_of_a_score_below_zero_is_no_limit(positive_score: float) -> None:
    result = mined(
        bm25=hits("a"), positives=["x"], scores={"x": positive_score, "a": 0.5}, config=config(relative_margin=0.95)
    )
    assert set(result.pool.passage_ids) == {"a", "x"}


def test_the_query_itself_is_no_candidate_but_stays_where_it_is_a_known_positive() -> None:
    inputs = {"bm25": hits("q", "a", "copy"), "dense": hits("copy", "q", "b"), "is_own": {"q", "copy"}.__contains__}
    result = mined(**inputs)
    assert members(result.pool) == {"a": "bm25", "b": "dense"}
    assert result.dropped == {"own_passage": 4}
    assert members(mined(**inputs, positives=["q"]).pool) == {"a": "bm25", "b": "dense", "q": "human"}


def test_a_query_without_a_lexical_hit_is_counted() -> None:
    assert (mined(bm25=[], dense=hits("a")).has_lexical_hit, mined(bm25=hits("a")).has_lexical_hit) == (False, True)


def test_places_are_never_filled_with_positives() -> None:
    result = mined(bm25=hits("x", "y", "a"), dense=hits("y", "x"), positives=["x", "y"])
    assert members(result.pool) == {"a": "bm25", "x": "human", "y": "human"}
    assert result.dropped == {"known_positive": 4}


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


def test_the_manifest_counts_cut_texts_queries_without_a_hit_and_own_passages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path, judged=True)
    encoder = write_tiny_encoder(tmp_path / "short", 1, ["cat", "dog"], passage_tokens=4, query_tokens=4)
    write_tiny_index(tmp_path / "short-index", dataset=tmp_path / "dataset", encoder=encoder)
    mine(config(tmp_path, encoder_uri=str(encoder), index_uri=str(tmp_path / "short-index")))
    metrics = read_manifest(str(tmp_path / "pools")).metrics
    # Every text is three words between two special tokens; the limit is four.
    assert (metrics["cut_passages_share"], metrics["cut_tokens_share"]) == (1.0, 0.2)
    assert metrics["num_queries_cut"] == 5
    assert (metrics["num_queries_without_lexical_hit"], metrics["language"]) == (0, "en")
    # Each query has the text of a passage, which is a known positive and so no candidate in any case.
    assert metrics["num_own_passages_left_out"] == 0
    assert metrics["dropped"]["known_positive"] > 0
    log = capfd.readouterr().err
    assert '"passage_tokens":4' in log
    assert '"passage_tokens_for_95_percent":5' in log
    assert "raise encoder.query_tokens" in log


def test_queries_that_are_passages_never_meet_themselves(tmp_path: Path) -> None:
    from components.prepare.config import PrepareConfig
    from components.prepare.job import prepare

    topics = {"tides": "the moon pulls on the sea", "bread": "dough needs flour", "bees": "bees shiver in the hive"}
    claims = {f"{name}-pro": f"{text}, and this deserves support" for name, text in topics.items()}
    passages = claims | {f"{name}-con": f"although {text}, it deserves none" for name, text in topics.items()}
    passages["copy"] = claims["bees-pro"].upper()
    (tmp_path / "raw" / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", passages), ("queries", claims)):
        lines = [f'{{"_id": "{key}", "text": "{text}"}}\n' for key, text in rows.items()]
        (tmp_path / "raw" / f"{name}.jsonl").write_text("".join(lines))
    rows = [f"{name}-pro\t{name}-con\t1\n" for name in topics]
    (tmp_path / "raw" / "qrels" / "train.tsv").write_text("".join(rows))
    prepare(PrepareConfig(collection_uri=str(tmp_path / "raw"), output_uri=str(tmp_path / "dataset")))
    encoder = write_tiny_encoder(tmp_path / "encoder", 1, words_of(list(passages.values())))
    write_tiny_index(tmp_path / "index", dataset=tmp_path / "dataset", encoder=encoder)
    mine(config(tmp_path))
    pools = list(read_records(tmp_path / "pools" / "pools.jsonl", Pool))
    assert [pool.query_id for pool in pools] == list(claims)
    for pool in pools:
        assert pool.query_id not in pool.passage_ids
        assert "copy" not in pool.passage_ids or pool.query_id != "bees-pro"
    # Itself in both rankings of three queries, and the copy in both of one.
    assert read_manifest(str(tmp_path / "pools")).metrics["num_own_passages_left_out"] == 8


def test_the_second_round_mines_with_another_encoder(tmp_path: Path) -> None:
    write_inputs(tmp_path, judged=True)
    mine(config(tmp_path))
    texts = [passage.text for passage in Dataset(tmp_path / "dataset").iter_passages()]
    encoder = write_tiny_encoder(tmp_path / "trained", 9, words_of(texts))
    write_tiny_index(tmp_path / "trained-index", dataset=tmp_path / "dataset", encoder=encoder)
    second = {
        "encoder_uri": str(encoder),
        "index_uri": str(tmp_path / "trained-index"),
        "output_uri": str(tmp_path / "pools-2"),
    }
    mine(config(tmp_path, **second))
    first, again = (
        {p.query_id: members(p) for p in read_records(tmp_path / name / "pools.jsonl", Pool)}
        for name in ("pools", "pools-2")
    )
    assert first.keys() == again.keys()
    assert first != again


def test_a_killed_job_keeps_its_finished_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path, judged=True)
    mine(config(tmp_path, output_uri=str(tmp_path / "whole")))
    monkeypatch.setattr("components.mine.job._BLOCK_QUERIES", 2)
    real, blocks = Miner.mine, []

    def dies_in_the_second_block(self: Miner, queries: list[Query]) -> Iterator[Mined]:
        blocks.append([query.query_id for query in queries])
        if len(blocks) == 2:
            raise SystemExit(143)
        return real(self, queries)

    monkeypatch.setattr(Miner, "mine", dies_in_the_second_block)
    with pytest.raises(SystemExit):
        mine(config(tmp_path))
    mine(config(tmp_path))
    assert blocks == [["q0", "q1"], ["q4", "q5"], ["q4", "q5"], ["q8"]]
    assert (tmp_path / "pools" / "pools.jsonl").read_bytes() == (tmp_path / "whole" / "pools.jsonl").read_bytes()


def test_train_queries_that_nobody_judged_get_pools_too(tmp_path: Path) -> None:
    folder = tmp_path / "partly"
    folder.mkdir()
    writer = DatasetWriter(folder)
    writer.add_passage(Passage("p", "", "cat"))
    queries = [(Query(name, name), split) for name, split in (("judged", "train"), ("new", "train"), ("old", ""))]
    writer.finish(queries, [(Qrel("judged", "p", 1), "train")])
    assert [query.query_id for query in choose_queries(Dataset(folder), config())] == ["judged", "new", "old"]


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
