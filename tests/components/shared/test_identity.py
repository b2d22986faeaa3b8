"""The code part of an identity is what a job runs: comments, docstrings and other rooms are not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.identity import code_digest, code_modules

_ROOT = Path(__file__).parents[3]


def _digests(project: Path, *components: str) -> dict[str, str]:
    code = f"from components.shared.identity import code_digest; print(*map(code_digest, {components!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(components, done.stdout.split(), strict=True))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(_ROOT / "components", folder / "components", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


_ROOMS = ("prepare", "mine", "train", "index", "evaluate")
_APPENDED = [
    ("shared/dataset.py", "\n# A comment that somebody mended.\n", set()),
    ("shared/manifest.py", '\n"""A text that stands alone."""\n', set()),
    ("train/loss.py", "\n_MORE = 1\n", {"train"}),
    ("shared/bm25.py", "\n_MORE = 1\n", set(_ROOMS)),
    ("shared/index/passage_index.py", "\n_MORE = 1\n", {"mine", "index", "evaluate"}),
    ("shared/manifest.py", "\n_MORE = 1\n", set(_ROOMS)),
    ("evaluate/report.html", "<!-- another look -->", {"evaluate"}),
    ("shared/pages/page.css", "p { margin: 0; }", {"evaluate"}),
]


@pytest.mark.parametrize(("name", "text", "changed"), _APPENDED, ids=[f"{name} {len(c)}" for name, _, c in _APPENDED])
def test_only_code_that_a_job_runs_changes_its_digest(project: Path, name: str, text: str, changed: set[str]) -> None:
    path = project / "components" / name
    before, content = _digests(project, *_ROOMS), path.read_text()
    try:
        path.write_text(content + text)
        after = _digests(project, *_ROOMS)
    finally:
        path.write_text(content)
    assert {room for room in _ROOMS if before[room] != after[room]} == changed


def test_a_docstring_inside_a_function_and_a_config_sentence_change_nothing(project: Path) -> None:
    before = _digests(project, "train")
    for name, old in (
        ("train/config.py", "Number of training groups in one step"),
        ("shared/manifest.py", "The manifest of a finished artifact."),
    ):
        path = project / "components" / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, "Another sentence"))
        assert _digests(project, "train") == before
        path.write_text(content)


def test_modules_imported_inside_functions_are_followed() -> None:
    modules = code_modules("annotate")
    assert "components.shared.engines.vllm" in modules
    assert "components.train.loss" not in modules


def test_a_module_of_a_room_may_be_a_job_of_its_own() -> None:
    assert code_digest("prepare.docs") != code_digest("prepare")
