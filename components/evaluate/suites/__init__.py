"""suites: any number of systems on any number of collections -> one page, one verdict.

Reads: a suite file; the datasets, encoders, indexes and TREC runs that it names.
Writes: runs of every system on every collection, metrics.json, per_query.csv, report.html, report.md, gate.json.
Needs: what evaluate needs.
Guarantees: what is compared was declared in the suite file before anything was searched; a system that was searched on
a collection is not searched there again; every number names its n and its signature.
"""
