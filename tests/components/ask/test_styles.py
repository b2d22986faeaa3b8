"""The mix of styles: read, refused where it says nothing, dealt out to the last query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ask.styles import DEFAULT_STYLES, STYLES, deal, parse_styles
from components.ask.writing import LIKELIHOOD
from components.shared.calls.templates import read_template


def test_shares_are_of_the_whole_whatever_they_add_up_to() -> None:
    assert parse_styles("question=3, keywords=1") == {"question": 0.75, "keywords": 0.25}
    assert sum(parse_styles(DEFAULT_STYLES).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("mix", "problem"),
    [
        ("", "names no style"),
        ("riddle=1", "there is no style 'riddle'; known are question"),
        ("question=1,question=2", "named twice"),
        ("question", "has no share; write question=0.5"),
        ("question=0", "a number above 0"),
        ("question=inf", "a number above 0"),
    ],
)
def test_a_mix_that_says_nothing_is_refused(mix: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_styles(mix)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.integers(0, 1000))
def test_the_styles_are_dealt_so_that_they_add_up(shares: list[float], num_queries: int) -> None:
    mix = parse_styles(",".join(f"{name}={share}" for name, share in zip(STYLES, shares, strict=False)))
    counts = deal(mix, num_queries)
    assert sum(counts.values()) == num_queries
    # Nobody is more than one query away from his share.
    assert all(abs(counts[name] - mix[name] * num_queries) < 1 + 1e-6 for name in mix)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_has_a_versioned_prompt_that_shows_its_passages(style: str) -> None:
    template = read_template("components.ask", "prompts", f"{style}.txt")
    assert template.version.startswith("1@")
    roles, last = [role for role, _ in template.sections], template.sections[-1][1]
    assert roles == ["system", "user", "assistant", "user"]
    assert last.count("{passage}") == 1
    assert last.count("{second}") == STYLES[style].num_passages - 1


def test_the_likelihood_template_has_a_context_and_a_continuation() -> None:
    sections = dict(read_template("components.ask", "prompts", f"{LIKELIHOOD}.txt").sections)
    assert "{passage}" in sections["context"]
    assert sections["continuation"] == "{query}"
