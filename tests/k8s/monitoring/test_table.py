"""k8s/monitoring.md lists every metric that the code can show, and no other; Prometheus' linter is silent."""

import re
import subprocess
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from components.serve.metrics import ServerMetrics
from components.serve.process.siblings import merged
from components.shared.telemetry import GAUGES, PREFIX
from tests.k8s.built import K8S

# name | type | unit | labels | meaning
_ROW = re.compile(r"^\| `(retriever_\w+)` \| (\w+) \| ([^|]+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


class _Row(NamedTuple):
    kind: str
    labels: frozenset[str]
    meaning: str


def _table() -> dict[str, tuple[_Row, str]]:
    text = (K8S / "monitoring.md").read_text()
    rows = {}
    for name, kind, unit, labels, meaning in _ROW.findall(text):
        assert name not in rows, f"{name} stands twice"
        rows[name] = _Row(kind, frozenset(labels.split(", ")) - {""}, meaning.strip()), unit.strip()
    return rows


def names_of_table() -> set[str]:
    """Every documented metric."""
    return set(_table())


def _server_exposition() -> str:
    metrics = ServerMetrics()
    metrics.set_version("1")
    metrics.show_watched(scores=True, languages=True)
    return metrics.exposition().decode()


def _job_exposition() -> str:
    registry = CollectorRegistry()
    for name, declared in GAUGES.items():
        gauge = Gauge(f"{PREFIX}{name}", declared.meaning, declared.labels, registry=registry)
        (gauge.labels(*declared.labels) if declared.labels else gauge).set(1)
    return generate_latest(registry).decode()


def _shown() -> dict[str, _Row]:
    rows = {}
    for text in (_server_exposition(), merged({"0": _server_exposition()}).decode(), _job_exposition()):
        for family in text_string_to_metric_families(text):
            if family.name.startswith("retriever_") and not family.name.endswith("_created"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
                # With several workers every metric has the worker's number too.
                rows.setdefault(name, _Row(family.type, labels, family.documentation))
    return rows


def test_the_table_holds_every_metric_with_its_type_labels_and_meaning_and_no_other() -> None:
    rows, shown = _table(), _shown()
    assert {name: row for name, (row, _) in rows.items()} == shown
    assert all(unit for _, unit in rows.values())


def test_a_unit_in_a_name_is_the_unit_of_the_table() -> None:
    for name, (_, unit) in _table().items():
        for suffix, word in (("_timestamp_seconds", "Unix seconds"), ("_seconds", "seconds"), ("_bytes", "bytes")):
            if name.endswith(suffix):
                assert unit == word, name
                break


def test_prometheus_own_linter_has_nothing_to_say() -> None:
    for text in (_server_exposition(), _job_exposition()):
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        ours = [line for line in checked.stderr.splitlines() if line.startswith("retriever_")]
        assert (checked.returncode, ours) == (0, []), checked.stderr
