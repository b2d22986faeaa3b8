"""Settings of a suite's evaluation; what is compared with what stands in the suite file (suite.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.shared.roles import INPUT, OUTPUT, PLACE, refuse


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """Suite file, and the artifacts that it names -> runs, metrics, statistics, a gate and a report."""

    suite_uri: str = field(metadata=INPUT)
    """Suite file, TOML or JSON: systems, collections, and the comparisons that are claims."""
    artifacts_uri: str = field(metadata=INPUT)
    """Datasets, encoders, indexes, annotations and run files that the suite file names, separated by commas, in its
    order; `retriever evaluate` fills it."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that runs, metrics.json, gate.json and the reports are written to."""
    cells_uri: str = field(metadata=PLACE)
    """Folder that keeps each system's run on each collection, so that it is searched once."""
    policy_uri: str = field(default="", metadata=INPUT)
    """Policy file, TOML: what the candidate must show against production; empty: no gate."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self)
