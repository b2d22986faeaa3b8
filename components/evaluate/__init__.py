"""evaluate: encoders, indexes and held-out queries -> runs, metrics, statistics, report.

Reads: dataset, base and trained encoder and index (and annotations, where no human judged the split).
Writes: TREC runs, metrics.json, per_query.csv, report.html.
Needs: bm25s, onnxruntime, faiss, ir-measures, scipy, jinja2.
Guarantees: the denominator is the judged queries; comparisons are paired; every number names its n.
"""
