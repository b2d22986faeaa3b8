"""mine: dataset, encoder and index -> pools.

Reads: dataset, encoder, index of that encoder.
Writes: pools.jsonl, one shuffled pool a query: BM25 hits, dense hits, the human positive where known; under a budget
selection.jsonl, which says of every train query why it has a pool or not.
Needs: bm25s, onnxruntime, faiss. The BM25 index is the dataset's.
Guarantees: no passage twice, no known positive in the place of a hard negative, never the query's own passage unless
people judged it relevant, the same seed gives the same bytes.
"""
