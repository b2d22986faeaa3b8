"""The ledger: the paper's four figures from their inputs, sums equal to the journal's records."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotate.cost.ledger import Ledger, human_comparison, human_dollars
from components.shared.calls.tally import SECONDS_PER_HOUR, Prices, Tally, tally_journal
from components.shared.durable.journal import Journal, read_journal

# Source: [ufa] section 5 and Table 7 (which swaps the hours of the two methods): MS MARCO's training queries, 30
# negatives and the human positive each, $0.09 a human label, eight GPUs at $0.8 an hour.
_QUERIES, _PASSAGES, _GPUS = 491_007, 31, 8
_PRICES = Prices(engine_hour=0.8, human_label=0.09)


def _gpu_hours(hours: float) -> Tally:
    return Tally(engine_seconds=hours * _GPUS * SECONDS_PER_HOUR)


def test_the_papers_human_annotation_costs_1369910_dollars() -> None:
    assert round(human_dollars(_QUERIES * _PASSAGES, _PRICES)) == 1_369_910


def test_the_papers_utility_selection_costs_339_dollars() -> None:
    assert round(_gpu_hours(53.0).dollars(_PRICES)) == 339


def test_the_papers_replug_costs_44639_dollars() -> None:
    # It needs the human answer of every query besides 70 hours of eight GPUs.
    assert round(_gpu_hours(70.0).dollars(_PRICES) + human_dollars(_QUERIES, _PRICES)) == 44_639


def test_the_papers_curriculum_with_a_fifth_of_the_human_labels_costs_274321_dollars() -> None:
    assert round(0.2 * human_dollars(_QUERIES * _PASSAGES, _PRICES) + _gpu_hours(53.0).dollars(_PRICES)) == 274_321


def test_the_papers_run_by_the_thousand_queries_and_million_pairs() -> None:
    its = Ledger({"utility_selection": _gpu_hours(53.0)}, _QUERIES, _QUERIES * _PASSAGES, _PRICES).as_dict()
    # 339.2 / 491.007; 339.2 / 15.221217.
    assert its["total"]["dollars_per_thousand_queries"] == pytest.approx(0.6908, abs=1e-4)
    assert its["total"]["dollars_per_million_pairs"] == pytest.approx(22.28, abs=1e-2)
    assert its["human"]["times_as_dear"] == pytest.approx(4039, abs=1)
    # 339.2 / 0.09: what the whole LLM run would buy of human labels.
    assert its["human"]["break_even_labels"] == pytest.approx(3769, abs=1)


def test_what_a_selection_left_out_is_priced_at_the_mean_of_what_was_annotated() -> None:
    used = Tally(prompt_tokens=5_000, engine_seconds=7_200.0)
    ledger = Ledger({}, 100, 3_100, Prices(engine_hour=2.0), used, left_out_per_query=4.0).as_dict()
    # Two hours at 2 dollars for 100 queries; four times as many were left out.
    assert ledger["saved"]["queries"] == 400
    assert ledger["saved"]["dollars"] == pytest.approx(16.0)
    assert ledger["saved"]["prompt_tokens"] == 20_000
    assert Ledger({}, 100, 3_100, Prices(), used).as_dict()["saved"]["queries"] == 0


def test_tokens_of_an_api_are_priced_by_their_kind() -> None:
    tally = Tally(prompt_tokens=3_000_000, cached_tokens=1_000_000, completion_tokens=500_000)
    # 2 fresh millions at 0.15, 1 cached at 0.075, half a million written at 0.60.
    assert tally.dollars(Prices(prompt_million=0.15, cached_million=0.075, completion_million=0.6)) == pytest.approx(
        0.675
    )


def test_break_even_by_hand() -> None:
    # 100 queries of 10 pairs: people 90 dollars, the LLM 40; 0.50 saved a query, so 25 dollars come back after 50
    # queries.
    its = human_comparison(40.0, 100, 1000, _PRICES, fixed_dollars=25.0)
    assert (its["dollars"], its["break_even_queries"]) == (pytest.approx(90.0), pytest.approx(50.0))
    assert human_comparison(91.0, 100, 1000, _PRICES)["break_even_queries"] is None
    assert human_comparison(0.0, 100, 1000, _PRICES)["times_as_dear"] is None


def _record(generator: random.Random, artifact: str) -> dict[str, Any]:
    template = generator.choice(["relevance_selection", "answer", "query_likelihood"])
    its = {
        "template": template,
        "template_version": "v",
        "rung": generator.choice(["first", "first", "new_seed"]),
        "query_id": "q",
        "artifact": artifact,
        "prompt_tokens": generator.randrange(1000),
        "cached_tokens": generator.randrange(100),
        "engine_seconds": generator.random(),
    }
    if template == "query_likelihood":
        return its | {"logprobs": [-1.0]}
    return its | {"text": "x", "finish_reason": "stop", "completion_tokens": generator.randrange(50)}


def test_totals_are_the_sums_of_the_journals_records_of_this_artifact_in_every_shard(tmp_path: Path) -> None:
    generator = random.Random(0)
    mine: list[dict[str, Any]] = []
    for shard in range(3):
        with Journal(tmp_path / "journal") as journal, Journal(tmp_path / "journal") as beside:
            for number in range(50):
                artifact = generator.choice(["mine", "other"])
                record = _record(generator, artifact)
                (journal if number % 2 else beside).append(f"{shard}-{number}", record)
                mine += [record] if artifact == "mine" else []
    tallies = tally_journal(read_journal(str(tmp_path / "journal")), "mine")
    with Journal(tmp_path / "journal") as journal:
        assert sum(its.calls for its in tally_journal(journal.records(), "mine").values()) == len(mine)
    total = Ledger(tallies, 10, 80, Prices()).total
    assert 0 < total.calls == len(mine) < 150
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        assert getattr(total, name) == sum(record.get(name, 0) for record in mine)
    assert total.engine_seconds == pytest.approx(sum(record["engine_seconds"] for record in mine))
    assert total.retries == sum(record["rung"] != "first" for record in mine)
    assert {name: tally.calls for name, tally in tallies.items()} == {
        name: sum(record["template"] == name for record in mine) for name in {record["template"] for record in mine}
    }


_TALLIES = st.builds(Tally, *[st.integers(0, 10**9)] * 5, st.floats(0, 1e6))


@given(st.lists(_TALLIES, max_size=5))
def test_dollars_of_the_templates_add_up_to_the_total(tallies: list[Tally]) -> None:
    prices = Prices(engine_hour=2.5, prompt_million=1.0, cached_million=0.1, completion_million=4.0)
    its = Ledger({str(number): tally for number, tally in enumerate(tallies)}, 10, 100, prices).as_dict()
    assert its["total"]["dollars"] == pytest.approx(sum(row["dollars"] for row in its["templates"].values()), abs=1e-6)


def test_calls_without_token_counts_make_the_sums_lower_bounds() -> None:
    counted = {"rung": "first", "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 2, "engine_seconds": 1.0}
    tally = Tally()
    # A record of an earlier version says nothing of it: its engine counted.
    for record in (counted, counted | {"is_counted": True}, counted | {"is_counted": False, "prompt_tokens": 0}):
        tally.add(record)
    assert (tally.calls, tally.uncounted_calls, tally.prompt_tokens) == (3, 1, 20)
    rows = Ledger({"answer": tally, "other": Tally()}, 3, 9, Prices(prompt_million=1.0)).as_dict()
    assert rows["templates"]["answer"]["is_lower_bound"]
    assert not rows["templates"]["other"]["is_lower_bound"]
    assert rows["total"]["uncounted_calls"] == 1
