"""train: annotations and a share of the human labels -> checkpoint.

Reads: dataset, annotations, a base model.
Writes: checkpoint (torch weights, tokenizer, settings) and the metrics of each step.
Needs: torch, transformers; a GPU at scale.
Guarantees: killed anywhere it resumes to bit-identical weights on a CPU; what is positive or ignored for a query is
never its negative.
"""
