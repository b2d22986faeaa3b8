"""sources: what clicks add to an LLM's labels, and where a budget of labels teaches most; two tables.

Reads: collections in BEIR layout, one with a click log; the packaged encoder.
Writes: cells/ (a journal of finished trainings), study.json, study.md, in a work folder a study.
Guarantees: killed anywhere it continues with the next cell; what ran is said above the table, whatever it shows.
"""
