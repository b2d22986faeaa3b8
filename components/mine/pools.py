"""One query's rankings and known positives -> its pool. Pure, so that a pool can be explained from its inputs."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from components.mine.config import MineConfig
from components.shared.journal import content_key
from components.shared.records import Hit, Pool


def make_pool(query_id: str, *, bm25: Sequence[Hit], dense: Sequence[Hit], positives: Collection[str], config: MineConfig) -> Pool:
    """Hard negatives from both rankings and the known positives, shuffled.

    A known positive never takes a hard negative's place: it is in the pool as `human`, or not at all.
    """
    known = set(positives)
    lexical = [hit.passage_id for hit in bm25 if hit.passage_id not in known][: config.num_bm25]
    semantic = [hit.passage_id for hit in dense if hit.passage_id not in known and hit.passage_id not in lexical][: config.num_dense]
    in_dense = {hit.passage_id for hit in dense}
    retrieved = {hit.passage_id for hit in bm25} | in_dense
    human = [p for p in positives if config.human_positive == "include" or p in retrieved]
    members = [(p, "bm25+dense" if p in in_dense else "bm25") for p in lexical]
    members += [(p, "dense") for p in semantic] + [(p, "human") for p in human]
    # Of its own seed, so that a pool does not depend on which other queries were drawn.
    seed = int(content_key(config.seed, query_id)[:8], 16)
    random.Random(seed).shuffle(members)
    return Pool(query_id, tuple(p for p, _ in members), tuple(source for _, source in members), seed)
