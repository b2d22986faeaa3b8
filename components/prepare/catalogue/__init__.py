"""catalogue: an id of ir_datasets -> a collection in BEIR layout, which prepare reads.

Reads: documents, queries and judgements of a data set that ir_datasets knows, downloaded by it where it is not there.
Writes: corpus.jsonl, queries.jsonl, qrels/<split>.tsv. Needs: ir_datasets (extra ir-datasets) and, the first time, a
network. Guarantees: only judged queries are written; documents are streamed, so that they may be more than memory.
"""
