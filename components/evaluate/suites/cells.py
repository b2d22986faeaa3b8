"""A cell: one system's run on one collection, an artifact of its own, so that it is searched once.

Its identity is that of every artifact: the content of dataset, encoder, index or run file, the settings of the search,
and the code. So a suite that gains a system searches that one only, and a killed suite goes on with the cell it was at.
Measures are no part of it: a run is measured again in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from components.evaluate.judgements import Judgements, find_judgements
from components.evaluate.runs import RunWriter, Search
from components.evaluate.searches import dense, encoding_once, hybrid, lexical, measure_latency
from components.evaluate.suites.foreign import foreign
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.corpus import check_corpus
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import num_cores
from components.shared.fusion.hybrid import Hybrid
from components.shared.fusion.tuned import read_fusion
from components.shared.index import set_threads
from components.shared.index.opening import open_pair
from components.shared.manifest import artifact_writer, compute_identity, input_digests, is_finished, open_artifact
from components.shared.records import Query
from components.shared.roles import INPUT, OUTPUT, SETTING, at_least, refuse

_COMPONENT = "evaluate.suites.cells"
RUN_NAME, LATENCY_NAME = "run.trec", "logs/latency.json"


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """What decides a run: a system, a collection, and how it is searched."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the run is written to."""
    encoder_uri: str = field(default="", metadata=INPUT)
    """Encoder of a dense or hybrid system."""
    index_uri: str = field(default="", metadata=INPUT)
    """Index of that encoder."""
    run_uri: str = field(default="", metadata=INPUT)
    """TREC run file of a system that searched elsewhere."""
    annotations_uri: str = field(default="", metadata=INPUT)
    """Annotations that judge the split where no person did."""
    system: str = field(metadata=SETTING)
    """Name of the system in the run file."""
    kind: Literal["bm25", "encoder", "hybrid", "run"] = field(metadata=SETTING)
    """What the system does with a query."""
    split: str = field(metadata=SETTING)
    """Split whose queries are searched."""
    depth: int = field(metadata=SETTING | at_least(1))
    """Number of hits of each query."""
    min_grade: int = field(default=1, metadata=SETTING | at_least(1))
    """Smallest grade that counts as relevant."""
    self_matches: Literal["drop", "keep"] = field(default="drop", metadata=SETTING)
    """Whether hits that are the query itself are left out."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self)


def search_cell(config: CellConfig) -> Path:
    """The folder of the finished run, searched now where it was not yet.

    Raises:
        ValueError: Where an index belongs to another encoder or dataset, or a run file cannot be read.
    """
    name = f"{config.system} on {Path(config.output_uri).parent.name}"
    if is_finished(config.output_uri, compute_identity(_COMPONENT, config, input_digests(config))):
        log.event(f"{name}: searched before")
        return open_artifact(config.output_uri)
    set_threads(num_cores())
    dataset, judgements, queries = open_collection(config)
    with artifact_writer(_COMPONENT, config) as artifact:
        search = _open_search(config, dataset)
        drops_self = config.self_matches == "drop"
        writer = RunWriter(dataset, queries, judgements.grades, [], config.depth, config.min_grade, drops_self)
        num_self_matches = sum(number for _, number in writer.write(config.system, search, artifact.path / RUN_NAME))
        artifact.metrics.update({"num_queries": len(queries), "num_self_matches": num_self_matches})
        if config.kind != "run":
            latency = measure_latency(search, queries)
            (artifact.path / LATENCY_NAME).parent.mkdir(exist_ok=True)
            (artifact.path / LATENCY_NAME).write_bytes(orjson.dumps(latency))
    return open_artifact(config.output_uri)


def open_collection(config: CellConfig) -> tuple[Dataset, Judgements, list[Query]]:
    """The dataset, who judges its split, and the queries of the split with those that are judged elsewhere."""
    dataset = Dataset(open_artifact(config.dataset_uri))
    folders = [open_artifact(uri) for uri in config.annotations_uri.split(",") if uri]
    judgements = find_judgements(dataset, split=config.split, annotation_folders=folders, min_grade=config.min_grade)
    in_split = {query.query_id for query in dataset.queries(config.split)}
    grades = judgements.grades
    queries = [query for query in dataset.queries() if query.query_id in in_split or query.query_id in grades]
    return dataset, judgements, queries


def read_latency(folder: Path) -> dict[str, Any]:
    """What a cell measured of its latency; empty for a run that was made elsewhere."""
    path = folder / LATENCY_NAME
    return dict(orjson.loads(path.read_bytes())) if path.is_file() else {}


def _open_search(config: CellConfig, dataset: Dataset) -> Search:
    if config.kind == "run":
        return foreign(config.run_uri, dataset)
    if config.kind == "bm25":
        return lexical(BM25(dataset))
    encoder, index = open_pair(config.encoder_uri, config.index_uri)
    folder = open_artifact(config.index_uri)
    check_corpus(config.index_uri, config.dataset_uri)
    encode = encoding_once(encoder)
    if config.kind == "encoder":
        return dense(encode, index)
    return hybrid(encode, Hybrid(BM25(dataset), index, read_fusion(folder)), dataset)
