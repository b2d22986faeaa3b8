"""A folder of documents -> passages with their provenance.

`walk` finds the files, `formats` turns each into blocks below headings, `cutting` packs blocks into passages whose size
`measure` estimates, `parts` does both for a part of the files at a time, `repeats` looks for what stands there twice,
`corpus` is all parts as one, and `job` is the recipe.
"""
