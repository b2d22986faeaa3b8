"""Every kind of broken or foreign file has its outcome: named and refused, named and left out, or read and noted."""

import bz2
import gzip
import lzma
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from tests.components.prepare.documents.folders import Files, prepared, write

GOOD: Files = {"good.txt": "A good text."}
LONG = "The tides rise and fall because of the moon.\n\n" * 400


@dataclass(frozen=True)
class Refused:
    """A file that ends the job, unless bad files are skipped."""

    name: str
    content: bytes
    kind: str
    message: str


REFUSED = [
    Refused("a.txt.gz", gzip.compress(os.urandom(9000))[:4000], "damaged archive", "is compressed and damaged or cut"),
    Refused("a.md.bz2", bz2.compress(os.urandom(9000))[:4000], "damaged archive", "is compressed and damaged or cut"),
    Refused("a.pdf", b"%PDF-1.4 and nothing more", "broken PDF", "pypdf cannot read it"),
    Refused("a.pdf", b"", "broken PDF", "pypdf cannot read it"),
    Refused("a.json", b'[{"text": "one"}, {"text": "tw', "broken JSON", "not JSON from this line on"),
    Refused("a.json", b'[{"text": "one"}, oops]', "broken JSON", "not JSON from this line on"),
    Refused("a.jsonl", b'{"text": "one"}\n{"text": oops}\n', "broken JSON", "a.jsonl:2: not JSON from column"),
    Refused("a.jsonl", b'{"text": "one"}\n["two"]\n', "not an object", "a.jsonl:2: the value is no JSON object"),
    Refused("a.jsonl", b'{"text": "one"}\n{"id": 2}\n', "missing text", "a.jsonl:2: no text under any of the names"),
    Refused("a.jsonl", b'{"id": 1}\n{"text": "two"}\n', "missing text", "a.jsonl:1: no text under any of the names"),
    Refused(
        "a.jsonl",
        b'{"text": "one", "id": 1}\n{"text": "two", "id": 1}\n',
        "duplicate id",
        "a.jsonl:2: the record's id stands in a.jsonl:1 already",
    ),
    Refused("a.json", b"[" * 100_000, "broken JSON", "not JSON from this line on"),
]


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: f"{bad.kind}-{bad.name}")
def test_what_cannot_be_read_is_named_and_refused_or_counted(tmp_path: Path, bad: Refused) -> None:
    with pytest.raises(ValueError, match="nothing was written") as refused:
        prepared(tmp_path, {**GOOD, bad.name: bad.content})
    assert bad.message in str(refused.value)
    assert f"(1 x {bad.kind})" in str(refused.value)
    assert "--on-problem skip" in str(refused.value)
    assert not (tmp_path / "dataset").exists()
    result = prepared(tmp_path, {}, on_problem="skip")
    assert result.manifest.metrics["skipped"] == {bad.kind: 1}
    assert "A good text." in result.texts


@dataclass(frozen=True)
class LeftOut:
    """A file in which there is nothing to read; the job goes on and says so."""

    name: str
    content: bytes
    kind: str


LEFT_OUT = [
    LeftOut("empty.txt", b"", "nothing to read"),
    LeftOut("blank.md", b" \n\n \n", "nothing to read"),
    LeftOut("only-title.rst", b"Title\n=====\n", "nothing to read"),
    LeftOut("script.html", b"<html><script>let a = 1;</script>", "nothing to read"),
    LeftOut("empty.json", b"[]", "nothing to read"),
    LeftOut("empty.txt.gz", gzip.compress(b""), "nothing to read"),
    LeftOut("package.json", b'{"name": "x", "version": "1"}', "JSON without texts"),
    LeftOut("numbers.json", b"[[1, 2], [3, 4]]", "JSON without texts"),
    LeftOut("binary.txt", b"\x7fELF\x00\x01\x00\x02" * 50, "binary content under the name of a text"),
    LeftOut("picture.png", b"\x89PNG", "no reader for this kind of file"),
    LeftOut("letter.docx", b"PK\x03\x04", "no reader for this kind of file"),
    LeftOut("sources.tar.gz", b"\x1f\x8b", "no reader for this kind of file"),
    LeftOut("news.py", b"print()", "no reader for this kind of file"),
    LeftOut(".hidden.txt", b"text", "hidden"),
    LeftOut(".git/info.txt", b"text", "hidden"),
    LeftOut("node_modules/left-pad/README.md", b"# left-pad", "folder that tools fill"),
    LeftOut("env/lib/a.txt", b"text", "folder that tools fill"),
]


@pytest.mark.parametrize("other", LEFT_OUT, ids=lambda other: other.name)
def test_what_is_no_document_is_named_with_its_reason(tmp_path: Path, other: LeftOut) -> None:
    files: Files = {**GOOD, other.name: other.content}
    if other.name.startswith("env/"):
        files["env/pyvenv.cfg"] = ""
    result = prepared(tmp_path, files)
    is_of_folder = other.kind in ("hidden", "folder that tools fill")
    assert result.left_out == {other.name.split("/")[0] if is_of_folder else other.name: other.kind}
    assert result.manifest.metrics["left_out"] == {other.kind: 1}
    assert result.texts == ["A good text."]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("Größe über alles, schöne Grüße aus Köln. ".encode("cp1252") * 9, None),
        ("Björn wrote this text about the tides of the sea. ".encode("cp1252") + LONG.encode(), "read as cp1252"),
        ("Приливы и отливы вызывает притяжение Луны. ".encode("cp1251") * 9, "read as cp1251"),
        ("Tides. Größe.".encode("utf-16"), "read as UTF-16"),
        ("Tides rise and fall.".encode("utf-16-le"), "read as utf-16-le"),
        ("\ufeffTides. Größe.".encode(), ""),
        ("Ä".encode() * 40 + b"\xff tides", "broken characters of UTF-8 read as U+FFFD"),
    ],
    ids=["latin-1", "a name", "cyrillic", "utf-16", "utf-16 without mark", "utf-8 with mark", "broken utf-8"],
)
def test_other_encodings_are_read_and_said(tmp_path: Path, content: bytes, note: str | None) -> None:
    result = prepared(tmp_path, {"a.txt": content}, duplicates="keep")
    notes = result.manifest.metrics["read_as"]
    assert list(notes.values()) == ([] if note == "" else [1])
    assert note is None or "".join(notes).startswith(note)
    words = {"Größe", "Björn", "Приливы", "Tides", "Tides.", "tides"}
    assert words & set(" ".join(result.texts).split())


def test_a_page_is_read_in_the_encoding_that_it_declares(tmp_path: Path) -> None:
    page = '<meta charset="iso-8859-2"><p>Příliv a odliv.'.encode("iso-8859-2")
    result = prepared(tmp_path, {"a.html": page})
    assert result.texts == ["Příliv a odliv."]
    assert result.manifest.metrics["read_as"] == {"read as iso8859-2, which it declares": 1}


def test_every_compression_is_read_by_its_first_bytes(tmp_path: Path) -> None:
    files: Files = {
        "a.txt.gz": gzip.compress(b"First."),
        "b.md.bz2": bz2.compress(b"# Two\n\nSecond."),
        "c.html.xz": lzma.compress(b"<p>Third."),
        "README": "Fourth.",
        "README.Debian": "Fifth.",
        "f.txt": gzip.compress(b"Sixth."),
    }
    result = prepared(tmp_path, files)
    assert sorted(result.texts) == ["Fifth.", "First.", "Fourth.", "Second.", "Sixth.", "Third."]
    assert [p.title for p, v in result.passages if v.file == "a.txt.gz"] == ["a"]


@pytest.mark.parametrize(
    "page",
    [
        "<p>Tides<b> rise</p> and <i>fall",
        "<ul><li>Tides rise<li>and fall</ul></ul></div></p>",
        "<![foo[ x ]]><!ELEMENT br EMPTY><p>Tides rise and fall",
        "<p>Tides rise and fall<",
        "<p>Tides rise &amp and &unknown; fall &#xD800; &#99999999;",
        "<p title='>Tides rise and fall",
        "<div>" * 20_000 + "Tides rise and fall",
        "<p>Tides" * 5_000,
    ],
)
def test_broken_html_is_read_as_far_as_it_says_something(tmp_path: Path, page: str) -> None:
    result = prepared(tmp_path, {"a.html": page, **GOOD})
    assert "Tides" in " ".join(result.texts)


def test_links_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", {"a.txt": "First.", "deep/b.txt": "Second."})
    outside = write(tmp_path / "outside", {"c.txt": "Third.", "more/d.txt": "Fourth.", "more/deep/e.txt": "Fifth."})
    (docs / "deep" / "up").symlink_to(docs)
    (docs / "deep" / "above").symlink_to(tmp_path)
    (docs / "again.txt").symlink_to(docs / "a.txt")
    (docs / "linked.txt").symlink_to(outside / "c.txt")
    (docs / "folder").symlink_to(outside / "more")
    (docs / "second").symlink_to(outside / "more")
    (docs / "third").symlink_to(outside / "more" / "deep")
    (outside / "more" / "round").symlink_to(outside / "more")
    (docs / "broken.txt").symlink_to(outside / "gone.txt")
    os.mkfifo(docs / "pipe.txt")
    result = prepared(tmp_path, {})
    assert sorted(result.texts) == ["Fifth.", "First.", "Fourth.", "Second.", "Third."]
    assert {provenance.file for _, provenance in result.passages} >= {"folder/d.txt", "folder/deep/e.txt"}
    link = "link to what is read anyway"
    assert result.left_out == {
        "again.txt": link,
        "broken.txt": "link to nothing",
        "deep/above": link,
        "deep/up": link,
        "folder/round": link,
        "pipe.txt": "no regular file",
        "second": link,
        "third": link,
    }


def test_what_lies_behind_a_link_is_part_of_what_a_run_knows_as_its_input(tmp_path: Path) -> None:
    docs, outside = write(tmp_path / "docs", {"a.txt": "First."}), write(tmp_path / "outside", {"b.txt": "Second."})
    (docs / "folder").symlink_to(outside)
    before = prepared(tmp_path, {})
    write(outside, {"b.txt": "Another."})
    after = prepared(tmp_path, {})
    assert sorted(before.texts) == ["First.", "Second."]
    assert sorted(after.texts) == ["Another.", "First."]
    assert before.manifest.identity != after.manifest.identity


@pytest.mark.parametrize("content", ['{"name": "my-app", "icons": []}', "[1]", "no JSON", '{"schema_version": 7}'])
def test_the_manifest_of_another_program_beside_documents_is_one_of_the_files(tmp_path: Path, content: str) -> None:
    before = prepared(tmp_path, {"a.txt": "First."})
    result = prepared(tmp_path, {"manifest.json": content}, on_problem="skip")
    assert result.texts == ["First."]
    assert result.manifest.inputs != before.manifest.inputs


def test_names_with_spaces_and_strange_bytes_give_ids_that_qrels_can_name(tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", {"my notes/to do\t1.txt": "First."})
    (docs / os.fsdecode(b"caf\xe9.txt")).write_text("Second.")
    result = prepared(tmp_path, {})
    assert sorted((p.passage_id.split("#")[0], v.file) for p, v in result.passages) == [
        ("caf%EF%BF%BD.txt", "caf\ufffd.txt"),
        ("my%20notes/to%20do%091.txt", "my notes/to do\t1.txt"),
    ]


def test_a_folder_in_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no document here has anything to read"):
        prepared(tmp_path, {"a.txt": "", "b.json": "{}"})


def test_a_folder_without_documents_is_told_about_the_other_layout(tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", {"a.png": b"\x89PNG", "collection.tsv": "1\ttext\n"})
    with pytest.raises(ValueError, match=r"corpus\.jsonl: is missing; collection\.tsv is there"):
        prepare(PrepareConfig(collection_uri=str(docs), output_uri=str(tmp_path / "dataset")))


def test_a_pdf_without_its_reader_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(ValueError, match=r"a\.pdf: is a PDF, and pypdf is not installed; pip install"):
        prepared(tmp_path, {**GOOD, "a.pdf": b"%PDF-1.4"})
