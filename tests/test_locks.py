"""What people install and what the images hold are the same versions."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[1]
_LOCKS = sorted((_ROOT / "docker").glob("*.lock"))


def lock_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", _ROOT / "docker" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _versions(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.stem)
def test_a_lock_and_the_constraints_hold_the_same_versions_of_what_both_have(path: Path) -> None:
    locked, constrained = _versions(path), _versions(_ROOT / "constraints.txt")
    # vLLM takes no newer ones; docker/lock.py says so beside the names.
    shared = (locked.keys() & constrained.keys()) - set(lock_module().APART.get(path.stem, ()))
    assert {name: (locked[name], constrained[name]) for name in shared if locked[name] != constrained[name]} == {}


def test_every_component_has_a_lock_and_every_lock_a_component() -> None:
    components = {path.parent.name for path in (_ROOT / "components").glob("*/__main__.py")}
    assert {path.stem for path in _LOCKS} == components | {"cuda", "traces"}
