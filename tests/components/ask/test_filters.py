"""Each filter with a planted case: what it must reject, and beside it what it must leave."""

import math

import pytest

from components.ask.config import AskConfig
from components.ask.filters import (
    FILTERS,
    Judged,
    flatness_of,
    judge_gains,
    judge_round_trip,
    judge_texts,
    longest_run,
    other_language,
)
from components.ask.reading import Reading
from components.ask.records import to_record
from components.ask.report import filter_table
from components.ask.sampling import Assignment
from components.ask.writing import Written
from components.shared.records import Hit, Passage

PASSAGE = Passage(
    "p1", "Bees", "A worker bee that hatches in summer lives for about six weeks because it flies until its wings fail."
)
GOOD = "How long does a summer worker live?"
DEFAULT = AskConfig(dataset_uri="", output_uri="", llm_uri="fake", num_queries=1)


def written(
    query: str, number: int = 0, *, passages: tuple[Passage, ...] = (PASSAGE,), style: str = "question"
) -> Written:
    reading = Reading("ok", "", query) if query else Reading("refused", "the model declines")
    return Written(Assignment(f"asked-{number}", style, passages, "train"), reading, "1@0")


def verdicts(
    *queries: str, config: AskConfig = DEFAULT, language: str = "en", known: tuple[str, ...] = ()
) -> list[str]:
    judged = judge_texts(
        [written(query, number) for number, query in enumerate(queries)], config, language=language, known=known
    )
    return [one.rejected_by for one in judged]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (GOOD, ""),
        ("", "reply"),
        ("Bees?", "length"),
        (" ".join(["bees"] * 41), "length"),
        ("Wie lange leben die Arbeiterinnen und wann sind sie nicht mehr da?", "language"),
        ("What does the passage say about worker bees?", "pointing"),
        ("According to the text above, how long do bees live?", "pointing"),
        ("What is described below about bees?", "pointing"),
        ("What is the purpose of the study?", "pointing"),
        ("What is the purpose of the three methods mentioned?", "pointing"),
        ("How many patients took part in this study?", "pointing"),
        ("What did the study of sound localisation find?", ""),
        ("A worker bee that hatches in summer lives for about six weeks", "copy"),
        # Five of six words in a row.
        ("flies until its wings fail badly", "copy"),
        ("worker bee summer", ""),
        # The word alone points at nothing.
        ("How wide is a mountain passage?", ""),
        ("Which text editors highlight syntax?", ""),
    ],
)
def test_a_filter_rejects_its_planted_case_and_no_other(query: str, name: str) -> None:
    assert verdicts(query) == [name]


def test_of_two_queries_that_are_alike_the_first_stays() -> None:
    assert verdicts(GOOD, "Summer worker: how long does it live", "Why do wings fail?") == ["", "duplicate", ""]


def test_a_query_that_people_asked_is_not_asked_again() -> None:
    assert verdicts(GOOD, known=("how long does the summer worker live",)) == ["duplicate"]


def test_a_rejected_query_does_not_stand_in_the_way_of_a_later_one() -> None:
    # The first one is a copy: the second, its double, is judged on its own.
    assert verdicts("bee that hatches in summer lives for about six weeks", "hatches summer bee six weeks life") == [
        "copy",
        "",
    ]


def test_the_limits_are_settings() -> None:
    def config(**settings: object) -> AskConfig:
        return AskConfig(dataset_uri="", output_uri="", llm_uri="fake", **settings)  # type: ignore[arg-type]

    assert verdicts("Bees?", config=config(min_query_words=1)) == [""]
    assert verdicts("flies until its wings fail badly", config=config(max_copied_share=1.0)) == [""]
    assert verdicts(GOOD, "Does the summer worker live long? How?", config=config(max_likeness=1.0)) == [
        "",
        "duplicate",
    ]
    assert verdicts(GOOD, "How long does a winter worker live?", config=config(max_likeness=0.5)) == ["", "duplicate"]


@pytest.mark.parametrize(
    ("query", "language", "said"),
    [
        ("Combien de temps vivent les abeilles dans la ruche ?", "en", "fr"),
        ("\u871c\u8702\u80fd\u6d3b\u591a\u4e45\uff1f\u4e3a\u4ec0\u4e48", "en", "zh"),
        ("How long do the bees live in a hive?", "de", "en"),
        # Two words that are German too, in a query whose words the corpus knows.
        ("How many people die in war?", "en", ""),
        ("varroa destructor treatment", "de", ""),
        ("BRCA1 mutation", "en", ""),
        ("How long do the bees live?", "other", ""),
        ("How long do the bees live?", "", ""),
    ],
)
def test_only_a_query_that_is_surely_in_another_language_counts_as_such(query: str, language: str, said: str) -> None:
    assert other_language(query, language, {"bees", "beehives", "how", "many", "people", "in"}) == said


def test_the_longest_run_is_of_neighbours_in_both() -> None:
    assert longest_run(["a", "b", "c"], ["x", "a", "b", "y", "b", "c"]) == 2
    assert longest_run(["a", "b", "c"], ["a", "b", "c", "a", "b"]) == 3
    assert longest_run([], ["a"]) == longest_run(["a"], []) == 0


def searched(config: AskConfig, **hits: list[Hit]) -> Judged:
    (judged,) = judge_round_trip(
        [Judged(written(GOOD))],
        config,
        {name: (lambda _, __, found=found: [found]) for name, found in hits.items()},
        num_passages=1000,
    )
    return judged


def ranking(*passage_ids: str, top: float = 10.0, step: float = 1.0) -> list[Hit]:
    return [Hit(passage_id, top - step * rank) for rank, passage_id in enumerate(passage_ids)]


def round_trip(**settings: object) -> AskConfig:
    places = {"dataset_uri": "", "output_uri": "", "llm_uri": "fake", "round_trip_depth": 3}
    return AskConfig(**{**places, **settings})  # type: ignore[arg-type]


def test_a_source_passage_must_be_found_again_by_one_of_the_searches() -> None:
    config = round_trip()
    assert searched(config, bm25=ranking("p1", "p2")).ranks == {"bm25": (1,)}
    lost = searched(config, bm25=ranking("p2", "p3"), dense=ranking("p4", "p5"))
    assert (lost.rejected_by, lost.ranks) == ("round trip", {"bm25": (0,), "dense": (0,)})
    found = searched(config, bm25=ranking("p2", "p3"), dense=ranking("p4", "p1"))
    assert (found.rejected_by, found.ranks) == ("", {"bm25": (0,), "dense": (2,)})


def test_in_a_small_corpus_a_source_passage_must_be_nearer_to_the_top() -> None:
    judged, config = [Judged(written(GOOD))], round_trip(round_trip_depth=20)
    hits = ranking("a", "b", "c", "d", "p1", "e")
    # Rank 5 is among the first 2 % of 250 passages and not of 200.
    for num_passages, name in ((250, ""), (200, "round trip")):
        (one,) = judge_round_trip(judged, config, {"bm25": lambda _, __: [hits]}, num_passages=num_passages)
        assert one.rejected_by == name


def test_the_round_trip_may_be_asked_of_one_search_alone() -> None:
    config = round_trip(round_trip="bm25")
    assert searched(config, bm25=ranking("p2"), dense=ranking("p1")).rejected_by == "round trip"


def test_both_passages_of_a_question_must_be_found() -> None:
    pair = (PASSAGE, Passage("p2", "", "Another text."))
    judged = [Judged(written(GOOD, passages=pair, style="two_passages"))]
    for ids, name in ((("p1", "p2"), ""), (("p1", "p3"), "round trip")):
        (one,) = judge_round_trip(
            judged, round_trip(), {"bm25": lambda _, __, ids=ids: [ranking(*ids)]}, num_passages=1000
        )
        assert one.rejected_by == name


def test_a_query_that_fits_many_passages_alike_is_too_general() -> None:
    # The third hit scores 9.8 of 10.
    flat = searched(round_trip(), bm25=ranking("p1", "p2", "p3", step=0.1))
    assert flat.rejected_by == "general"
    assert flat.flatness == pytest.approx(0.98)
    assert searched(round_trip(), bm25=ranking("p1", "p2", "p3", step=1.0)).rejected_by == ""
    # Two hits of three: nobody else has its words at all.
    assert searched(round_trip(), bm25=ranking("p1", "p2", step=0.1)).rejected_by == ""
    assert flatness_of([], 3) == 0.0


def test_a_rejected_query_is_not_searched_for() -> None:
    asked: list[str] = []

    def search(texts: list[str], _: int) -> list[list[Hit]]:
        asked.extend(texts)
        return [ranking("p1") for _ in texts]

    judged = [Judged(written(GOOD)), Judged(written("Bees?")).reject("length", "1 words")]
    assert [one.rejected_by for one in judge_round_trip(judged, round_trip(), {"bm25": search}, num_passages=9)] == [
        "",
        "length",
    ]
    assert asked == [GOOD]


def test_a_query_that_its_passage_makes_no_likelier_is_rejected() -> None:
    judged = [Judged(written(GOOD, number)) for number in range(4)]
    gains = {"asked-0": (0.5, ("k",)), "asked-1": (0.05, ()), "asked-2": (math.nan, ())}
    verdicts = judge_gains(judged, gains, min_gain=0.1)
    # The last one came to no test: another filter had rejected it.
    assert [one.rejected_by for one in verdicts] == ["", "likelihood", "likelihood", ""]
    assert verdicts[0].gain_calls == ("k",)


def test_the_table_counts_every_query_once() -> None:
    judged = judge_texts(
        [written(query, number) for number, query in enumerate((GOOD, "", "Bees?", GOOD))],
        DEFAULT,
        language="en",
        known=(),
    )
    table = filter_table([to_record(one, "fake@0") for one in judged])
    assert table["all"] == {"asked": 4, **dict.fromkeys(FILTERS, 0), "reply": 1, "length": 1, "duplicate": 1, "kept": 1}
    assert table["question"] == table["all"]
