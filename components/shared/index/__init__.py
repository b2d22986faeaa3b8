"""index: the FAISS structure and the passage ids of its rows, bound to the encoder that made the vectors."""

from components.shared.index.exact import exact_rows, iter_blocks, recall, recalls
from components.shared.index.passage_index import IDS_NAME, SETTINGS_NAME, IndexSettings, PassageIndex
from components.shared.index.structure import INDEX_NAME, factory_problem, set_threads, trained

__all__ = [
    "IDS_NAME",
    "INDEX_NAME",
    "SETTINGS_NAME",
    "IndexSettings",
    "PassageIndex",
    "exact_rows",
    "factory_problem",
    "iter_blocks",
    "recall",
    "recalls",
    "set_threads",
    "trained",
]
