"""prepare: raw collection in BEIR layout, or a folder of documents -> dataset.

Reads: corpus.jsonl, queries.jsonl, qrels/*.tsv, clicks.tsv, plain or compressed (`python -m components.prepare.docs`
writes such a collection from docstrings); or text, Markdown, reStructuredText, HTML, PDF and JSON records as people
have them.
Writes: dataset (memory-mapped Arrow) with its language and its BM25 index, and with the provenance of passages cut from
documents. Needs: pyarrow, bm25s, PyStemmer, regex; for documents charset-normalizer, markdown-it-py, docutils, for PDF
pypdf; no model, no GPU. Guarantees: every bad line or file is named, or counted where the user said skip; nothing
half-written, and a killed job counts no block of words twice.
"""
