"""The commands of README.md's section about a cluster, which the tests run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    """Every command of the section, in its order."""
    section = (ROOT / "README.md").read_text().split("\n## On a cluster\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    return [
        line.strip() for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")
    ]


def command(*parts: str) -> str:
    """The one command that holds all these parts."""
    (chosen,) = [line for line in commands() if all(part in line for part in parts)]
    return chosen
