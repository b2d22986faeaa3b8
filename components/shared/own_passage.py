"""The passage that a query is: where queries are passages of the corpus (ArguAna, Quora), finding itself says nothing.

Mining leaves it out of pools and evaluation out of runs, by this one rule.
"""

from __future__ import annotations

from components.shared.records import Passage, Query


def is_own_passage(query: Query, passage: Passage) -> bool:
    """True where the passage is the query itself: by its id and text, or by its text alone.

    Equal ids do not make a passage the query's own unless it holds the query's text, since many collections number both
    from 0. A passage under another id is the query's own where its text, with or without its title, is the query and
    nothing else. Case and white space do not count. Whether the passage is judged relevant, and so stays, is for the
    caller to know.
    """
    asked, whole = same_text(query.text), same_text(passage.full_text)
    if passage.passage_id == query.query_id and asked in whole:
        return True
    return whole.endswith(asked) and asked in (whole, same_text(passage.text))


def same_text(text: str) -> str:
    """What makes two texts the same to a reader: letters, not case or spacing."""
    return " ".join(text.casefold().split())
