"""check: looks at a run from outside, before its first task, behind its last, and when it is over.

Reads: addresses, places and variables that the run will need; evaluation; the records of the run.
Writes: checks.json or outcome.json; the records of the run; the collection's digest, which a cache must know.
Needs: no model and no GPU.
Guarantees: before names everything that is wrong at once; after says what really happened, whatever the platform says.
"""
