"""What a row of the table in flow.py holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, dict[str, Any]]
When = Callable[[Settings], bool]


def always(_: Settings) -> bool:
    """A task that takes part in every run."""
    return True


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row: a task of the flow.

    Attributes:
        name: What a person reads; unique.
        config: Config class of the component that runs.
        sections: Sections of the parameter file that fill the config; a field belongs to the first whose class
            declares it.
        makes: Name of the artifact: its folder in a work folder, the output of the Kubeflow task.
        inputs: Config field -> names of the tasks that can make it; the first one that takes part in the run does.
        instead: The same of a field that a person sets where none of them takes part.
        job: Module of the component's room that runs, where it is not the room's own.
        fixed: Config field -> value that only the flow decides.
        takes: Where not empty, the only settings that this task reads; all others keep their defaults.
        places: Config field -> durable folder of a local work folder that shards and runs share.
        shards: Setting that says into how many tasks this row is split; each gets its number as `shard`.
        when: Whether the task takes part in a run with these settings.
        watched: Inputs whose content may change under one address, so that a cache must know their digest.
        shown: Numbers of its manifest that a platform's page shows of the task.
        page: File of its artifact that a platform's page shows.
        note: File of its artifact in Markdown that a platform's page shows.
        gate: Input whose maker's verdict must be `pass` before a platform starts the task; the job looks again itself.
        opens: Whether a platform starts nothing behind the task where its verdict is not `pass`.
    """

    name: str
    config: type[Any]
    sections: tuple[str, ...]
    makes: str
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    shards: str = ""
    when: When = always
    watched: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    page: str = ""
    note: str = ""
    gate: str = ""
    opens: bool = False
    job: str = ""

    @property
    def component(self) -> str:
        """The room whose job runs."""
        return str(self.config.__module__.split(".")[1])

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return f"components.{self.component}" + (f".{self.job}" if self.job else "")
