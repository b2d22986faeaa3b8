"""Every command of the README parses: targets exist, subcommands and flags are known, settings and files are there."""

import functools
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from pipelines import cli
from pipelines.settings import read_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
_COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
_KNOWN = ("make", "retriever", "curl", "kubectl", "python")


def _words(command: str) -> list[str]:
    """The command without variables before it and without the environment's folder."""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return [words[0].removeprefix(".venv/bin/"), *words[1:]]


def _of(program: str) -> list[list[str]]:
    return [words for words in map(_words, _COMMANDS) if words[0] == program]


def _parse(arguments: list[str]) -> dict[str, Any]:
    """What a subcommand would be called with."""
    seen: dict[str, Any] = {}

    def recorded(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def record(**values: Any) -> int:
            seen.update(values)
            return 0

        return record

    commands = {name: recorded(command) for name, command in cli.COMMANDS.items()}
    tyro.extras.subcommand_cli_from_dict(commands, args=arguments)
    return seen


def test_the_readme_has_commands_of_known_programs() -> None:
    assert len(_COMMANDS) > 10
    assert {_words(command)[0] for command in _COMMANDS} <= set(_KNOWN)


def test_the_two_commands_that_do_everything_come_first() -> None:
    assert [words[1] for words in _of("make")][:2] == ["demo", "test"]


@pytest.mark.parametrize("words", _of("make"), ids=" ".join)
def test_a_make_target_exists(words: list[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", _of("retriever"), ids=" ".join)
def test_a_retriever_command_parses(words: list[str]) -> None:
    values = _parse(words[1:])
    if "params" in values:
        # The file is read and every --set is applied, as the command would.
        assert read_settings(ROOT / values["params"], values.get("set", ()))
    if "flow" in values:
        assert values["flow"].settings()


def test_an_unknown_flag_would_be_found() -> None:
    with pytest.raises(SystemExit):
        _parse(["serve", "--wrkdir", "x"])


def test_files_that_the_text_names_exist() -> None:
    named = set(re.findall(r"`((?:components|pipelines|k8s|docker|tests)/[\w./-]+)`", README))
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).exists()} == set()
