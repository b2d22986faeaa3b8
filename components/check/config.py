"""Settings of check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import INPUT, OUTPUT, PLACE, SETTING, at_least, refuse


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """A run seen from outside: can it work, is it through, what came of it."""

    output_uri: str = field(metadata=OUTPUT)
    """Folder that the findings are written to."""
    records_uri: str = field(metadata=PLACE)
    """Durable folder of the records of runs and of the failures of tasks."""
    run_id: str = field(metadata=SETTING)
    """Identifier of the run, as the platform knows it."""
    moment: Literal["before", "end", "after"] = field(metadata=SETTING)
    """before: addresses, places and variables are looked at; end: every task is through; after: the run is over,
    however it ended."""
    watched: str = field(default="", metadata=SETTING)
    """Addresses whose content is digested, separated by spaces, so that a cache knows when one changed; what is not
    there, such as the pointer of a store without a release, counts as such. Empty: none."""
    readable: str = field(default="", metadata=SETTING)
    """Addresses that tasks will read, as name=address separated by spaces; a name of the hub is asked for there."""
    writable: str = field(default="", metadata=SETTING)
    """Folders in a bucket that tasks will write to, as name=address separated by spaces."""
    variables: str = field(default="", metadata=SETTING)
    """Names of environment variables that must be set, separated by spaces."""
    llm: str = field(default="", metadata=SETTING)
    """Folder of the LLM that a GPU must hold, whose weights are added up; a name of the hub or empty: none."""
    gpu_gib: float = field(default=0.0, metadata=SETTING | at_least(0))
    """Memory of the GPU that the LLM must fit, in GiB; 0 compares nothing."""
    status: str = field(default="", metadata=SETTING)
    """How the platform says that the run ended, where its word can be trusted (Argo: Succeeded, Failed or Error);
    empty: what the tasks recorded decides."""
    evaluation_uri: str = field(default="", metadata=INPUT)
    """Evaluation of the run, for what the record at the end says of it."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if not self.run_id:
            yield "run_id '': a run without an identifier leaves no record; the runner fills it in"
        for name in ("readable", "writable"):
            for entry in str(getattr(self, name)).split():
                if "=" not in entry:
                    yield f"{name} {entry!r}: write name=address"
