"""Hybrid search: the rankings of BM25 and of a dense index made one, by scores that are exact on both sides."""
