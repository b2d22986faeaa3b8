"""Benchmarks are run rarely; what they import must not go away unseen meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_BENCHES = sorted(path.stem for path in (_ROOT / "tests" / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", _BENCHES)
def test_a_benchmark_finds_all_that_it_imports(name: str) -> None:
    # In a process of its own: some set variables that other tests must not see.
    code = f"import tests.benchmarks.{name}"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
