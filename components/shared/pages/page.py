"""Pages that a person opens: one self-contained HTML file, without network or script.

What is shown may be untrusted text: the templates escape everything, and each page's content security policy forbids
scripts and requests besides. The look that all pages have in common is page.css; a template includes it by that name.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def open_environment(folder: Path) -> Environment:
    """For the templates of a folder; a name that a template does not get is an error, never an empty place."""
    folders = [folder, Path(__file__).parent]
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
