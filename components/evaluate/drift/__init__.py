"""drift: whether the queries that servers sampled are still like those that the release was made and measured for.

Reads: encoder, index and dataset of a release, or its pointer; sampled queries. Writes: drift.json, report.html.
Like for like: the release's own dev and test queries and the sampled ones are scored by the same encoder and index.
"""
