"""The alerts fire when they should and not before, by promtool's own tests; one fires and clears in a Prometheus."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from components.shared.contract.outcome import write_record
from tests.components.shared.pushgateway import pushgateway
from tests.k8s.built import K8S
from tests.k8s.monitoring.prometheus import await_true, prometheus
from tests.k8s.monitoring.test_table import names_of_table

RULES = K8S / "components" / "alerts" / "rules.yaml"
_CASES = sorted(Path(__file__).parent.glob("alerts*.yaml"))


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_the_rules_are_the_same_for_the_operator_and_for_any_prometheus() -> None:
    resource = yaml.safe_load((RULES.parent / "prometheus-rule.yaml").read_text())
    assert resource["spec"] == yaml.safe_load(RULES.read_text())


def test_every_alert_says_in_a_line_what_to_do() -> None:
    for rule in _rules():
        assert len(rule["annotations"]["runbook"].splitlines()) == 1, rule["alert"]


def test_an_alert_asks_for_metrics_of_the_table_only() -> None:
    for rule in _rules():
        names = set(re.findall(r"\bretriever_\w+", rule["expr"]))
        assert names, rule["alert"]
        assert {re.sub("_bucket$", "", name) for name in names} <= names_of_table(), rule["alert"]


def test_promtool_runs_a_case_where_each_alert_fires_and_one_where_it_does_not() -> None:
    cases = [case for path in _CASES for case in yaml.safe_load(path.read_text())["tests"]]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    alerts = {rule["alert"] for rule in _rules()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == alerts
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == alerts
    done = subprocess.run(["promtool", "test", "rules", *_CASES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_outcome_of_a_failed_run_fires_an_alert_and_that_of_the_next_one_clears_it(tmp_path: Path) -> None:
    with pushgateway() as gateway:
        port = urlsplit(gateway).port
        assert port is not None
        with prometheus(tmp_path, {"pushgateway": port}, rules=RULES) as server:
            _end_run(tmp_path, "first", gateway)
            assert await_true(lambda: "RetrieverRunFailed" in server.firing())
            write_record(f"{tmp_path}/records", "runs/second/finished", {"metrics": {}})
            _end_run(tmp_path, "second", gateway)
            assert await_true(lambda: "RetrieverRunFailed" not in server.firing())


def _end_run(folder: Path, run_id: str, gateway: str) -> None:
    """The exit task of a run, which finds what its tasks left."""
    places = [f"--records-uri={folder}/records", f"--output-uri={folder}/{run_id}"]
    command = [sys.executable, "-m", "components.check", "--moment=after", f"--run-id={run_id}", *places]
    variables = {"PUSHGATEWAY_URL": gateway, "RETRIEVER_PIPELINE": "squad", "RETRIEVER_TASK": "outcome"}
    done = subprocess.run(["env", *(f"{name}={value}" for name, value in variables.items()), *command], check=False)
    assert done.returncode == 0
