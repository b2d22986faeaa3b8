"""Names that a cluster sees of a task, and the sentences that it shows of a setting."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any

from pipelines.flow import Task

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


def slug(text: str) -> str:
    """The text as Kubernetes takes a name: small letters, digits and single hyphens."""
    return _NOT_A_WORD.sub("-", text.lower()).strip("-")


def component_name(task: Task) -> str:
    """The name of a task's component: small letters, digits and hyphens."""
    return slug(task.name)


def field_sentences(config: type[Any]) -> dict[str, str]:
    """Config field -> the sentence below it in its source; fields of the classes it builds on included."""
    sentences: dict[str, str] = {}
    for cls in reversed(config.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, below in zip(definition.body, definition.body[1:], strict=False):
            if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                sentences[statement.target.id] = " ".join(str(below.value.value).split())
    return sentences
