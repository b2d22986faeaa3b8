"""answer: first passages of runs -> short answers by an LLM, and what they are worth (RAG).

Reads: dataset with reference answers; runs, as evaluate or anybody else wrote them. Writes: answers.jsonl,
metrics.json, report.html. Needs: vllm, or an endpoint, or transformers on a CPU; rouge-score, sacrebleu. Guarantees: no
call in the journal is made again; every system answers the same queries, between answers from no passage and answers
from the known positives; EM and F1 are SQuAD's, ROUGE-L and BLEU their libraries'.
"""
