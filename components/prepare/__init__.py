"""prepare: raw collection in BEIR layout -> dataset.

Reads: corpus.jsonl, queries.jsonl, qrels/*.tsv, plain or compressed (`python -m components.prepare.docs` writes such a
collection from docstrings). Writes: dataset (memory-mapped Arrow) with its language and its BM25 index. Needs: pyarrow,
bm25s, PyStemmer, regex; no model, no GPU. Guarantees: every bad line is named with file and line, or counted where the
user said skip; nothing half-written, and a killed job counts no block of words twice.
"""
