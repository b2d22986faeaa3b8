"""What a person reads on a terminal and a machine in a file: words or JSON, bars on a terminal only."""

import json
import os
import pty
import subprocess
import sys
import termios

import pytest

_SPEAK = """
from components.shared import log
log.event("index written", num_passages=3, recall=0.98765)
for item in log.progress(range(3), "encoded", total=3, unit="passages"):
    log.warning("a passage was cut", passage="p1")
"""

# What tqdm, huggingface_hub and the conversion of a GGUF file draw with.
_BARS = """
import importlib
MODULES = ("tqdm", "tqdm.auto", "huggingface_hub.utils", "transformers.modeling_gguf_pytorch_utils")

def draw(label):
    for name in MODULES:
        list(importlib.import_module(name).tqdm(range(3), desc=f"{{label}} bar of {{name}}"))

from components.shared import log
{before}
log.silence_libraries()
draw("later")
"""


def _stderr(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("RETRIEVER_LOG", "TQDM_DISABLE")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env={**clean, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def _on_a_terminal(code: str, **environment: str) -> str:
    """What a program writes to stderr where that is a terminal."""
    clean = {name: value for name, value in os.environ.items() if name not in ("RETRIEVER_LOG", "TQDM_DISABLE")}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], stderr=theirs, env={**clean, **environment}
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        written += block
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


def test_a_file_gets_one_json_object_a_line() -> None:
    lines = [json.loads(line) for line in _stderr(_SPEAK).splitlines()]
    assert [line["event"] for line in lines] == ["index written", *3 * ["a passage was cut"], "encoded"]
    assert lines[0]["recall"] == 0.98765
    assert lines[1]["level"] == "warning"
    assert lines[-1]["done"] == 3


def test_words_in_a_file_hold_no_control_characters() -> None:
    text = _stderr(_SPEAK, RETRIEVER_LOG="human")
    assert "index written  num_passages=3  recall=0.9877" in text
    assert [character for character in text if ord(character) < 32 and character != "\n"] == []
    assert len(text.splitlines()) == 5


def test_a_terminal_shows_words_and_a_bar() -> None:
    text = _on_a_terminal(_SPEAK)
    assert "index written  num_passages=3" in text
    assert "encoded:" in text
    assert "\r" in text.replace("\r\n", "\n")


def test_json_on_a_terminal_has_no_bar() -> None:
    text = _on_a_terminal(_SPEAK, RETRIEVER_LOG="json").replace("\r\n", "\n")
    assert [json.loads(line)["event"] for line in text.splitlines()][-1] == "encoded"


@pytest.mark.slow
def test_libraries_draw_no_bars_in_a_file() -> None:
    assert _stderr(_BARS.format(before=""), RETRIEVER_LOG="human") == ""


@pytest.mark.slow
def test_libraries_that_are_imported_already_draw_no_more_bars_in_a_file() -> None:
    text = _stderr(_BARS.format(before="draw('earlier')"), RETRIEVER_LOG="json")
    assert text.count("earlier bar of") >= 4
    assert "later" not in text


def test_processes_of_a_silenced_one_draw_no_bars_either() -> None:
    code = (
        "import subprocess, sys\nfrom components.shared import log\nlog.silence_libraries()\n"
        "subprocess.run([sys.executable, '-c', 'import tqdm; list(tqdm.tqdm(range(3)))'], check=True)\n"
    )
    assert _stderr(code) == ""


def test_a_terminal_keeps_the_bars_of_libraries() -> None:
    code = (
        "from components.shared import log\nlog.silence_libraries()\n"
        "import tqdm.auto\nlist(tqdm.auto.tqdm(range(3), desc='bar'))\n"
    )
    assert "bar:" in _on_a_terminal(code)
