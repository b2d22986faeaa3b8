"""What a task's container is told: of threads as many as its pod asks cores for, and what a person says comes last."""

import pytest

from pipelines.cluster.deployment import Deployment
from pipelines.cluster.variables import pod_variables
from pipelines.resources import profile_of


@pytest.mark.parametrize(
    ("profile", "component", "threads"),
    # 200m of a small node; 7 cores of eight; 14 of sixteen, beside a GPU.
    [("kind", "train", "1"), ("gke-l4", "prepare", "7"), ("gke-l4", "train", "14")],
)
def test_a_task_has_as_many_threads_as_it_asks_cores_for(profile: str, component: str, threads: str) -> None:
    resources = profile_of(profile)[component]
    variables = pod_variables(component, resources, Deployment(), can_ask_for_disk=True)
    assert variables["OMP_NUM_THREADS"] == threads


def test_a_person_may_say_otherwise() -> None:
    deployment = Deployment(env=("OMP_NUM_THREADS=3",))
    variables = pod_variables("train", profile_of("kind")["train"], deployment, can_ask_for_disk=False)
    assert variables["OMP_NUM_THREADS"] == "3"
