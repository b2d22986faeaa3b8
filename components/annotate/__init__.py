"""annotate: pools -> annotations, by an LLM.

Reads: dataset, pools.
Writes: annotations.jsonl with three-way labels; a journal of all LLM calls.
Needs: vllm, or an endpoint, or transformers on a CPU.
Guarantees: no call in the journal is made again; a completion that cannot be parsed is counted and kept, never repaired into labels.
"""
