"""index: passages by their vectors, searched by FAISS or by Milvus, and bound to the encoder that made the vectors."""

from components.shared.index.exact import exact_rows, iter_blocks, recall, recalls
from components.shared.index.faiss_index import FaissIndex
from components.shared.index.milvus_index import COLLECTION_PREFIX, MilvusIndex
from components.shared.index.milvus_server import MilvusServer, place_of, uri_problem
from components.shared.index.milvus_structure import milvus_factory_problem
from components.shared.index.passage_ids import PassageIds
from components.shared.index.passage_index import PassageIndex
from components.shared.index.reading import open_index
from components.shared.index.settings import IDS_NAME, SETTINGS_NAME, IndexSettings, MilvusPlace, parse_settings
from components.shared.index.structure import INDEX_NAME, factory_problem, set_threads, trained

__all__ = [
    "COLLECTION_PREFIX",
    "IDS_NAME",
    "INDEX_NAME",
    "SETTINGS_NAME",
    "FaissIndex",
    "IndexSettings",
    "MilvusIndex",
    "MilvusPlace",
    "MilvusServer",
    "PassageIds",
    "PassageIndex",
    "exact_rows",
    "factory_problem",
    "iter_blocks",
    "milvus_factory_problem",
    "open_index",
    "parse_settings",
    "place_of",
    "recall",
    "recalls",
    "set_threads",
    "trained",
    "uri_problem",
]
