"""collect: runs -> pools of a test collection; once an LLM has judged them, the collection, and what it is worth.

Reads: dataset, runs; for the second product the judgements of its own pools, and people's. Writes: pools.jsonl that
annotate judges; or qrels in BEIR and TREC form, metrics.json, report.html. Needs: ir-measures, scipy. Guarantees: every
system's first passages are judged alike, without a look at people's judgements; a person's judgement is never replaced;
one model that labels, judges and answers is named.
"""
