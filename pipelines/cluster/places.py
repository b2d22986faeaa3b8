"""Where journals and training state lie in a cluster: under one folder in a bucket, unless a setting names another."""

from __future__ import annotations

from components.shared.roles import Role, names, role_of
from pipelines.flow import SECTIONS, Settings, Task, owners, parameters

# Parameter of a run that all of them hang on.
STATE = "state_uri"


def run_parameters(settings: Settings) -> list[str]:
    """`section.setting` of everything that differs from run to run, the places left out: STATE says where they lie."""
    return [
        parameter
        for parameter in parameters(settings)
        if role_of(SECTIONS[(parts := parameter.split("."))[0]].__dataclass_fields__[parts[1]]) is not Role.PLACE
    ]


def durable_places(task: Task, settings: Settings, state_uri: str) -> dict[str, str]:
    """Config field -> address of every place that a task works in; `state_uri` may be a parameter of the target.

    Journals are shared by the tasks that share one in a local run; any other place is the task's own.
    """
    sections = owners(task)
    chosen = {name: str(settings[sections[name]][name]) for name in names(task.config, Role.PLACE)}
    return {name: value or f"{state_uri}/{task.places.get(name, task.component)}" for name, value in chosen.items()}
