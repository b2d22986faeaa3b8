"""Templates as data: a text with holes, in sections, with a version.

The first line says `version <number>`; each section is headed `## name`. The filled text of a template is part of every
call's journal key; its version and digest are recorded with what the calls gave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from components.shared.hashing import text_digest


@dataclass(frozen=True)
class Template:
    """A template's text as its file has it; `name` says which one where it is wrong."""

    name: str
    text: str

    @property
    def version(self) -> str:
        """Version and digest: `1@0f3a9c5e21b7`."""
        match = re.match(r"version (\d+)\n", self.text)
        assert match, f"{self.name}: the first line must say `version <number>`"
        return f"{match[1]}@{text_digest(self.text)[:12]}"

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Names and bodies in order; a name may come twice, as the roles of a chat do."""
        parts = re.split(r"^## (.+)$", self.text, flags=re.MULTILINE)
        return tuple((name.strip(), body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True))


@cache
def read_template(package: str, *path: str) -> Template:
    """The template file of a package, such as `read_template("components.ask", "prompts", "claim.txt")`."""
    text = resources.files(package).joinpath(*path).read_text("utf-8")
    return Template("/".join(path), text)


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its `{holes}` filled.

    One pass over the template: what is filled in is never looked at again, so a passage cannot hold a hole.
    """
    return re.sub(r"\{(\w+)\}", lambda hole: values[hole[1]], text)
