"""Benchmarks are run rarely; what they import must not go away unseen meanwhile."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_BENCHES = sorted(path.stem for path in (_ROOT / "tests" / "benchmarks").glob("*.py"))
_IMPORT_ALL = """
import importlib, json, sys, traceback
failures = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(f"tests.benchmarks.{name}")
    except Exception:
        failures[name] = traceback.format_exc()
print(json.dumps(failures))
"""


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    # In one process of their own: some set variables that other tests must not see, and torch is imported once.
    command = [sys.executable, "-c", _IMPORT_ALL, *_BENCHES]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", _BENCHES)
def test_a_benchmark_finds_all_that_it_imports(failures: dict[str, str], name: str) -> None:
    assert name not in failures, failures[name]
