"""What a task asks for is there on the machine that its row names."""

import re

import pytest

from pipelines.resources import NODES, PROFILES, Resources

_ROWS = [
    pytest.param(row, id=f"{profile}-{component}")
    for profile in PROFILES
    for component, row in PROFILES[profile].items()
]


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def _gib(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([MG])i", text).groups()  # type: ignore[union-attr]
    return float(number) / (1024 if unit == "M" else 1)


def _reserved_gib(memory: float) -> float:
    """Source: "Plan node sizes" of GKE: 25 % of the first 4 GiB, 20 % of 4, 10 % of 8, 6 % of 112, 2 % beyond."""
    reserved, rest = 0.1, memory  # 100 MiB for eviction
    for size, share in ((4, 0.25), (4, 0.2), (8, 0.1), (112, 0.06), (10_000, 0.02)):
        reserved += min(rest, size) * share
        rest = max(0.0, rest - size)
    return reserved


def test_the_reserved_memory_is_that_of_a_known_machine() -> None:
    # 32 GiB: 1 + 0.8 + 0.8 + 16 * 0.06 = 3.56, and 0.1.
    assert _reserved_gib(32) == pytest.approx(3.66)


@pytest.mark.parametrize("row", _ROWS)
def test_a_task_fits_its_node_beside_the_systems_own_pods(row: Resources) -> None:
    node = NODES[row.node]
    # About 0.1 core is reserved, and the system's pods ask for up to half a core and half a GiB.
    assert _cores(row.cpu_request or row.cpu) <= node.cores - 0.6
    assert _gib(row.memory_request or row.memory) <= node.memory_gib - _reserved_gib(node.memory_gib) - 0.5
    assert _gib(row.memory) <= node.memory_gib
    if row.gpu:
        assert row.num_gpus <= node.num_gpus
        assert _gib(row.shared_memory) < _gib(row.memory)


def test_on_a_small_node_a_task_leaves_room_for_what_runs_there_already() -> None:
    # On a node of two cores a task that asks for two is never scheduled.
    assert all(_cores(row.cpu_request) <= 0.25 for row in PROFILES["kind"].values())
    assert all(_gib(row.memory_request) <= 1 for row in PROFILES["kind"].values())


def test_every_profile_has_a_row_for_every_component() -> None:
    rows = {tuple(profile) for profile in PROFILES.values()}
    assert len(rows) == 1


def test_what_takes_days_may_be_lost_often_and_what_is_cheap_to_lose_may_be_moved() -> None:
    assert PROFILES["spot"]["train"].num_retries >= 10
    assert all(PROFILES["gke-a100"][name].num_retries >= 4 for name in ("annotate", "train", "ask"))
    assert not PROFILES["gke-a100"]["train"].evictable
    assert PROFILES["gke-a100"]["prepare"].evictable
