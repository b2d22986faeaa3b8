"""Every format: its structure becomes titles, its text loses its markup, and offsets lead back to the source."""

import json
from pathlib import Path

import pytest

from tests.components.prepare.documents.folders import prepared

TEXT = """Tides
=====

Tides rise and fall because of the moon.

Causes
------

The moon pulls the water,
and so does the sun.
"""
MARKDOWN = """---
title: "Sea book"
layout: page
---
# Tides

Tides rise and *fall* because of [the moon](https://example.org/moon).

## Causes

- the **moon** pulls
- the sun `pulls()` too

```python
def pull(water):

    return water + 1
```

| body | share |
|------|-------|
| moon | two thirds |

<h3 align="center">Raw</h3>
<p>Raw &amp; ready</p>
"""
RST = """Tides
=====

Tides rise and *fall* because of `the moon <https://example.org/moon>`_.

.. toctree::
   hidden/page

Causes
------

- the **moon** pulls
- see :py:func:`~sea.pull` for more

.. versionadded:: 3.2

.. function:: pull(water, *others)

   Pulls the water.

.. code-block:: python

   def pull(water):

       return water + 1

==== ==========
body share
==== ==========
moon two thirds
==== ==========
"""
HTML = """<!doctype html><html><head><title>Sea book</title><style>p { color: red }</style></head>
<body><nav><a href="/">Home</a></nav><header>Logo</header>
<main><h1>Tides<a class="headerlink" href="#t">&para;</a></h1>
<p>Tides rise and <i>fall</i> because
of <a href="moon.html">the&nbsp;moon</a> &amp; the sun.
<h2>Causes</h2>
<ul><li>the <b>moon</b> pulls<li>the sun too</ul>
<pre>def pull(water):

    return water + 1
</pre>
<table><tr><td>moon</td><td>two thirds</td></tr></table>
<script>var hidden = "<p>never</p>";</script>
</main><footer>Imprint</footer></body></html>
"""
CODE = "def pull(water):\n\n    return water + 1"


def test_plain_text_is_cut_at_blank_lines_below_its_underlined_titles(tmp_path: Path) -> None:
    result = prepared(tmp_path, {"sea.txt": TEXT})
    assert [(p.title, p.text) for p, _ in result.passages] == [
        ("Tides", "Tides rise and fall because of the moon."),
        ("Tides > Causes", "The moon pulls the water,\nand so does the sun."),
    ]
    assert [TEXT[v.start : v.end] for _, v in result.passages] == result.texts


def test_markdown_loses_its_markup_and_keeps_its_structure(tmp_path: Path) -> None:
    result = prepared(tmp_path, {"sea.md": MARKDOWN})
    assert [(p.title, p.text) for p, _ in result.passages] == [
        ("Sea book > Tides", "Tides rise and fall because of the moon."),
        (
            "Sea book > Tides > Causes",
            f"the moon pulls\nthe sun pulls() too\n\n{CODE}\nbody | share\nmoon | two thirds",
        ),
        ("Sea book > Tides > Causes > Raw", "Raw & ready"),
    ]
    sources = [MARKDOWN[v.start : v.end] for _, v in result.passages]
    assert sources[0] == "Tides rise and *fall* because of [the moon](https://example.org/moon)."
    assert sources[1].startswith("- the **moon** pulls\n")
    assert sources[1].endswith("| moon | two thirds |")
    assert sources[2] == "Raw &amp; ready"[: len(sources[2])]
    assert "layout" not in " ".join(result.texts)


def test_restructured_text_of_sphinx_keeps_what_its_directives_and_roles_say(tmp_path: Path) -> None:
    result = prepared(tmp_path, {"sea.rst": RST})
    assert [(p.title, p.text) for p, _ in result.passages] == [
        ("Tides", "Tides rise and fall because of the moon."),
        (
            "Tides > Causes",
            "the moon pulls\nsee sea.pull for more\n\nAdded in 3.2\n\npull(water, *others)\n\nPulls the water.\n\n"
            f"{CODE}\nbody | share\nmoon | two thirds",
        ),
    ]
    sources = [RST[v.start : v.end] for _, v in result.passages]
    assert sources[0] == "Tides rise and *fall* because of `the moon <https://example.org/moon>`_."
    assert sources[1].startswith("the **moon** pulls\n- see")
    assert sources[1].endswith("moon two thirds")


def test_restructured_text_reads_and_runs_nothing_that_it_names(tmp_path: Path) -> None:
    files = {
        "a.rst": "Hello there.\n\n.. include:: secret.inc\n\n.. raw:: html\n\n   <b>raw</b>\n",
        "secret.inc": "secret",
    }
    assert prepared(tmp_path, files).texts == ["Hello there."]


def test_html_keeps_its_main_part_only(tmp_path: Path) -> None:
    result = prepared(tmp_path, {"sea.html": HTML})
    assert [(p.title, p.text) for p, _ in result.passages] == [
        ("Tides", "Tides rise and fall because of the moon & the sun."),
        ("Tides > Causes", f"the moon pulls\nthe sun too\n\n{CODE}\nmoon | two thirds"),
    ]
    sources = [HTML[v.start : v.end] for _, v in result.passages]
    assert sources[0].startswith("Tides rise and <i>fall</i> because\nof <a")
    assert sources[0].endswith("the sun.")
    assert sources[1].startswith("the <b>moon</b> pulls<li>")
    assert sources[1].endswith("two thirds")


def test_a_page_without_headings_has_its_title_and_a_text_its_file_name(tmp_path: Path) -> None:
    result = prepared(
        tmp_path, {"a.html": "<title>The sea</title><p>It is wet.", "deep/how-to-swim.txt": "Move the arms."}
    )
    assert [p.title for p, _ in result.passages] == ["The sea", "how-to-swim"]
    assert [v.headings for _, v in result.passages] == [("The sea",), ("how-to-swim",)]


def test_a_page_that_is_all_navigation_is_read_whole(tmp_path: Path) -> None:
    result = prepared(tmp_path, {"a.html": "<nav><p>Only this <p>and that</nav>", "b.html": "<main></main><p>Outside"})
    assert result.texts == ["Only this\n\nand that", "Outside"]


def test_records_of_other_tools_are_read_under_their_own_names(tmp_path: Path) -> None:
    records = [
        {"text": "ours", "_id": "r1", "title": "One"},
        {"page_content": "of LangChain", "metadata": {"title": "Two", "page": 7, "id": "r2"}},
        {"contents": "of Pyserini", "docid": 3},
        {"body": "of a crawler", "name": "Four"},
        {"markdown": "# Five\n\nof *Markdown*", "id": "r5"},
    ]
    result = prepared(tmp_path, {"all.jsonl": "".join(json.dumps(record) + "\n" for record in records)})
    assert [(p.passage_id.split("#")[0], p.title, p.text) for p, _ in result.passages] == [
        ("r1", "One", "ours"),
        ("r2", "Two", "of LangChain"),
        ("3", "", "of Pyserini"),
        ("all.jsonl", "Four", "of a crawler"),
        ("r5", "Five", "of Markdown"),
    ]
    assert [(v.file, v.record, v.start, v.end, v.page) for _, v in result.passages] == [
        ("all.jsonl", "r1", 0, 4, 0),
        ("all.jsonl", "r2", 0, 12, 7),
        ("all.jsonl", "3", 0, 11, 0),
        ("all.jsonl", "4", 0, 12, 0),
        ("all.jsonl", "r5", 8, 21, 0),
    ]
    assert result.manifest.metrics["read_as"] == {
        '"page_content" read as "text"': 1,
        '"contents" read as "text"': 1,
        '"body" read as "text"': 1,
        '"markdown" read as "text"': 1,
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("array.json", '[{"id": "a", "text": "one"},\n {"id": "b", "text": "two"}]'),
        ("frame.json", '{"documents": [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}], "version": 3}'),
        ("pretty.json", '{\n  "id": "a",\n  "text": "one"\n}\n{\n  "id": "b",\n  "text": "two"\n}\n'),
        ("pretty.jsonl", '{\n  "id": "a",\n  "text": "one"\n}\n{\n  "id": "b",\n  "text": "two"\n}\n'),
        ("array.jsonl", '[{"id": "a", "text": "one"},\n {"id": "b", "text": "two"}]'),
        ("lines.json", '{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}'),
        ("lines.ndjson", '\ufeff{"id": "a", "text": "one"}\r\n\r\n{"id": "b", "text": "two"}\r\n'),
    ],
)
def test_json_is_read_in_every_form_that_tools_write(tmp_path: Path, name: str, content: str) -> None:
    result = prepared(tmp_path, {name: content})
    assert [(p.passage_id, p.text) for p, _ in result.passages] == [("a", "one"), ("b", "two")]


def test_a_record_longer_than_a_passage_gives_several_that_carry_its_id(tmp_path: Path) -> None:
    text = "One two three four five six seven. " * 4
    result = prepared(
        tmp_path, {"a.json": json.dumps([{"id": "r1", "text": text}])}, cut_tokens=16, cut_overlap_tokens=0
    )
    ids = [p.passage_id for p, _ in result.passages]
    assert len(ids) == 1  # the second half has the words of the first, and is dropped
    assert ids[0].startswith("r1#")
    assert [v.record for _, v in result.passages] == ["r1"]


def pdf_of(*pages: str) -> bytes:
    """A PDF with a page for each text; lines are set one below the other."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for text in pages:
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 72 720 Td {lines}ET".encode("latin-1")
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 << /Type /Font "
            b"/Subtype /Type1 /BaseFont /Helvetica >> >> >> /Contents " + f"{len(objects) + 2} 0 R >>".encode()
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return content + f"{end}startxref\n{len(content)}\n%%EOF\n".encode()


def test_pdf_gives_paragraphs_with_their_pages(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    pages = ("Tides rise and fall be-\ncause of the moon.", "The sun pulls too, and so does the wind.")
    result = prepared(tmp_path, {"sea.pdf": pdf_of(*pages)}, cut_tokens=16, cut_overlap_tokens=0)
    assert [(p.title, p.text, v.page) for p, v in result.passages] == [
        ("sea", "Tides rise and fall because of the moon.", 1),
        ("sea", "The sun pulls too, and so does the wind.", 2),
    ]
    # Offsets count in the text of all pages with a form feed between two.
    read = pypdf.PdfReader(tmp_path / "docs" / "sea.pdf")
    source = "\f".join(page.extract_text() for page in read.pages)
    assert [source[v.start : v.end] for _, v in result.passages] == list(pages)
