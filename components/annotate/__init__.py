"""annotate: pools -> annotations, by an LLM.

Reads: dataset, pools.
Writes: annotations.jsonl with three-way labels and how each came about, quarantine.jsonl; a journal of all LLM calls,
local or gs://. Needs: vllm, or an endpoint, or transformers on a CPU. Guarantees: no call in the journal is made again;
a completion that cannot be read climbs the ladder or is quarantined, never guessed at.
"""
