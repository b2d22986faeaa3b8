"""ask: dataset -> the same corpus with queries that an LLM wrote for sampled passages.

Reads: dataset (and the base encoder with its index, for the round trip). Writes: dataset; beside its queries
asked.jsonl, everything that was asked, kept or rejected and why; a page under logs/. Needs: vllm, or an endpoint, or
transformers on a CPU; bm25s. Guarantees: no call in the journal is made again; every kept query leads back to its
source passages, prompt and call; no passage is asked about in two splits; asked queries never pass for people's.
"""
