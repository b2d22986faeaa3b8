"""What people install and what the images hold are the same versions."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.cluster.images import GPU_VARIANTS, build_of
from pipelines.resources import PROFILES

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
    lines = [line.split()[0] for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.stem)
def test_a_lock_and_the_constraints_hold_the_same_versions_of_what_both_have(path: Path) -> None:
    locked, constrained = _versions(path), _versions(_ROOT / "constraints.txt")
    # vLLM takes no newer ones; docker/lock.py says so beside the names.
    shared = (locked.keys() & constrained.keys()) - set(lock_module().APART.get(path.stem, ()))
    assert {name: (locked[name], constrained[name]) for name in shared if locked[name] != constrained[name]} == {}


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.stem)
def test_every_line_of_a_lock_names_the_one_file_that_is_installed(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}", line)] == []


def test_every_component_has_a_lock_and_every_lock_a_component() -> None:
    components = {path.parent.name for path in (_ROOT / "components").glob("*/__main__.py")}
    variants = {f"{component}.gpu" for component in GPU_VARIANTS}
    assert {path.stem for path in _LOCKS} == components | variants | {"build", "traces"}


@pytest.mark.parametrize("component", sorted(GPU_VARIANTS))
def test_the_variant_for_gpus_differs_in_what_computes_and_in_cudas_libraries_only(component: str) -> None:
    plain, on_gpu = (_versions(_ROOT / "docker" / f"{component}{variant}.lock") for variant in ("", ".gpu"))
    replaced = lock_module().ON_GPU
    added = on_gpu.keys() - plain.keys() - {Requirement(name).name for name in replaced.values()}
    assert {name for name in added if not name.startswith("nvidia-")} == set()
    assert plain.keys() - on_gpu.keys() == set(replaced)
    for name, instead in replaced.items():
        # The vectors and the index of one are those of the other.
        assert on_gpu[Requirement(instead).name] == plain[name]
    assert {name: on_gpu[name] for name in plain.keys() & on_gpu.keys()} == {
        name: plain[name] for name in plain.keys() & on_gpu.keys()
    }


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_what_a_profile_gives_a_gpu_runs_a_build_for_gpus(profile: str) -> None:
    for component, row in PROFILES[profile].items():
        lock = build_of(component, row).replace("-gpu", ".gpu")
        held = _versions(_ROOT / "docker" / f"{lock}.lock")
        assert bool(row.gpu) <= bool({"torch", "onnxruntime-gpu"} & held.keys()), component
        # torch of an index is a CUDA build, and the lock holds its libraries.
        assert ("torch" in held or "onnxruntime-gpu" in held) == any(name.startswith("nvidia-") for name in held)
