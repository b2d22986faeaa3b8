"""evaluate: encoders, indexes and held-out queries -> runs, metrics, statistics, report.

Reads: dataset, base and trained encoder and index (and annotations, where no human judged the split).
Writes: TREC runs, metrics.json, per_query.csv, report.html, report.md, gate.json and gate.txt (pass or fail).
Needs: bm25s, onnxruntime, faiss, ir-measures, scipy, matplotlib, jinja2.
Guarantees: BM25, both encoders and their hybrids with BM25 search the same queries; encoders are compared like for like
and queries in pairs; the denominator is the judged queries; every number names its n.

suites/ is the same for any number of systems on any number of collections, gate/ what may take production's place.
"""
