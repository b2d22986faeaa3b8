"""Whether a passage is the query itself."""

import pytest

from components.shared.own_passage import is_own_passage
from components.shared.records import Passage, Query


@pytest.mark.parametrize(
    ("passage", "is_own"),
    [
        (Passage("7", "", "why do tides rise"), True),
        (Passage("7", "Tides", "Why do tides  rise? The moon."), True),
        # Collections that number both from 0 share ids by chance.
        (Passage("7", "", "bread needs flour"), False),
        (Passage("8", "", "Why do\ttides rise"), True),
        (Passage("8", "Tides", "why do tides rise"), True),
        (Passage("8", "why do", "tides rise"), True),
        # A passage that quotes the query answers it perhaps.
        (Passage("8", "", "why do tides rise? the moon"), False),
        (Passage("8", "", "he asked: why do tides rise"), False),
        (Passage("8", "", ""), False),
    ],
)
def test_a_passage_is_the_query_by_id_and_text_or_by_text_alone(passage: Passage, is_own: bool) -> None:
    assert is_own_passage(Query("7", "why do tides rise"), passage) is is_own
