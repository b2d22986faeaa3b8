"""Nouns that cross a border between components, and what carries them.

| artifact (a folder)                   | written by | read by                                  | code            |
|---------------------------------------|------------|------------------------------------------|-----------------|
| dataset: corpus, queries, qrels       | prepare,   | ask, mine, annotate, train, index,       | dataset.py,     |
|                                       | ask        | evaluate, answer                         | corpus.py       |
| - its bm25/: words of the passages    | prepare    | ask, mine, index, evaluate, serve        | bm25.py         |
| pools: pools.jsonl                    | mine       | annotate                                 | records.py      |
| annotations: annotations.jsonl        | annotate   | train, evaluate, answer                  | records.py      |
| checkpoint: torch weights, tokenizer  | train      | export                                   | checkpoint.py   |
| encoder: ONNX graph, tokenizer        | export     | mine, index, evaluate, serve             | encoder.py      |
| index: FAISS file, passage ids        | index      | mine, evaluate, serve                    | index.py        |
| - its fusion.json: BM25's weight      | index      | evaluate, serve                          | fusion/tuned.py |
| evaluation: runs, metrics, report     | evaluate   | answer, people                           | evaluate/job.py |
| answers: answers.jsonl, report        | answer     | people                                   | answer/job.py   |
| test pools; test collection: qrels    | collect    | annotate; people                         | collect/job.py  |

Every artifact folder holds a manifest.json (manifest.py): what made it, from what, and the digest of each file.
This package imports only itself, and at most one heavy library a file.
"""
