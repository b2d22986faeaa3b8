"""study: does the method do what its paper says? The packaged encoder, real collections, real components, one table.

Reads: collections in BEIR layout, the packaged encoder.
Writes: cells/ (a journal of finished trainings), study.json, study.md.
Needs: what the demo needs; a minute or two of CPU a cell.
Guarantees: killed anywhere it continues with the next cell; the table says which part of the plan ran, and holds every
cell that did, whatever it says.
"""
