"""study: does the method do what its paper says? Small retrievers, real collections, real components, one table.

Reads: collections in BEIR layout, the packaged models.
Writes: cells/ (a journal of finished trainings), study.json, study.md.
Needs: what the demo needs; minutes of CPU a cell.
Guarantees: killed anywhere it continues with the next cell; every cell of the plan is in the table, whatever it says.
"""
