"""What a text's language decides: which words it has, which of them carry no topic, and what their stems are.

`words` normalises texts and finds their words, `table` lists the languages, `detection` tells which one a collection is
written in, and `terms` makes of a text what BM25 counts.
"""
