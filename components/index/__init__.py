"""index: encoder and corpus -> index.

Reads: dataset, encoder; vectors of its like, or an index of an earlier state of the corpus.
Writes: index (FAISS file, passage ids), bound to the encoder's digest, and fusion.json: how much BM25 weighs in hybrid
search, tuned on judged dev queries; expected.json: which score is a good hit, and which languages there are; or a share
of the vectors.
Needs: onnxruntime, faiss, bm25s; a GPU where present.
Guarantees: recall@10 against exact search is at least the gate, or the job fails; a killed job goes on at the shard
where it was.
"""
