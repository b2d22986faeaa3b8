"""The documentation of a small package tree written here: what is kept, what is asked, what is relevant."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.prepare.config import DocsConfig, PrepareConfig
from components.prepare.docs import collect_docs
from components.prepare.job import prepare
from components.prepare.labels.splits import hash_split
from components.prepare.sources import find_modules, read_objects
from components.shared.dataset import Dataset
from components.shared.manifest import read_manifest

LONG = "The work is done in place, one row after the other, and nothing is returned to whoever called."

INIT = '''
"""A package for tests."""
raise RuntimeError("this package must not be imported")
'''
OVEN = f'''
def heat(oven):
    """Bring it to the right temperature.

    {LONG} First kind.

    See Also
    --------
    cool : The opposite.
    Oven.clean
    missing : Not there.
    """

def cool(oven):
    """Take warmth away slowly over time.

    {LONG} Second kind.

    See Also
    --------
    heat
    """

class Oven:
    """Where loaves become brown and crisp.

    {LONG} Third kind.
    """

    def clean(self):
        """Remove ash, crumbs and old flour.

        {LONG} Fourth kind.

        See Also
        --------
        bakery.oven.heat
        """

    def _hidden(self):
        """Nobody should ever see this one.

        {LONG} Fifth kind.
        """
'''
UNUSABLE = f'''
def short():
    """Too few words.

    {LONG} Sixth kind.
    """

def bodiless():
    """A summary that is long enough."""

def knead():
    """Knead the dough with both hands.

    {LONG} Seventh kind.
    """

def twin():
    """One of two that look alike.

    {LONG} Eighth kind.
    """

def second_twin():
    """Another with the very same body.

    {LONG.upper()} eighth  kind.
    """

def same():
    """This summary stands in two places.

    {LONG} Ninth kind.
    """

def again():
    """This summary stands in two places.

    {LONG} Tenth kind.
    """
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Folder with the package `bakery`, which must not be imported."""
    files = {
        "__init__.py": INIT,
        "oven.py": OVEN,
        "_unusable.py": UNUSABLE,
        "broken.py": "def f(:\n",
        "latin.py": b"# caf\xe9\n",
        "tests/test_oven.py": OVEN.replace("heat", "test_heat"),
        "_private/oven.py": OVEN.replace("heat", "private_heat"),
    }
    for name, content in files.items():
        path = tmp_path / "site" / "bakery" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / "site"


def collect(package: Path, output: Path, **settings: object) -> dict[str, object]:
    """Collects and returns the corpus, the queries and the qrels by id."""
    config = DocsConfig(
        **({"output_uri": str(output), "packages": "bakery", "num_passages": 5, "num_queries": 5} | settings)
    )
    collect_docs(config, search_path=[str(package)])
    rows = {
        name: [json.loads(line) for line in (output / f"{name}.jsonl").read_text().splitlines()]
        for name in ("corpus", "queries")
    }
    qrels = {}
    for split in ("train", "dev", "test"):
        header, *lines = (output / "qrels" / f"{split}.tsv").read_text().splitlines()
        assert header == "query-id\tcorpus-id\tscore"
        for query_id, passage_id, grade in (line.split("\t") for line in lines):
            assert hash_split(query_id) == split
            qrels.setdefault(query_id, {})[passage_id] = int(grade)
    return {
        "corpus": {row["_id"]: row for row in rows["corpus"]},
        "queries": {row["_id"]: row["text"] for row in rows["queries"]},
        "qrels": qrels,
    }


def test_an_object_is_relevant_to_its_summary_and_its_see_also_a_little(package: Path, tmp_path: Path) -> None:
    collected = collect(package, tmp_path / "docs")
    assert collected["queries"] == {
        "how-bakery.oven.heat": "Bring it to the right temperature",
        "how-bakery.oven.cool": "Take warmth away slowly over time",
        "how-bakery.oven.Oven": "Where loaves become brown and crisp",
        "how-bakery.oven.Oven.clean": "Remove ash, crumbs and old flour",
        "how-bakery.twin": "One of two that look alike",
    }
    assert collected["qrels"] == {
        "how-bakery.oven.heat": {"bakery.oven.heat": 2, "bakery.oven.cool": 1, "bakery.oven.Oven.clean": 1},
        "how-bakery.oven.cool": {"bakery.oven.cool": 2, "bakery.oven.heat": 1},
        "how-bakery.oven.Oven": {"bakery.oven.Oven": 2},
        "how-bakery.oven.Oven.clean": {"bakery.oven.Oven.clean": 2, "bakery.oven.heat": 1},
        "how-bakery.twin": {"bakery.twin": 2},
    }


def test_a_passage_does_not_give_its_query_or_its_relatives_away(package: Path, tmp_path: Path) -> None:
    passage = collect(package, tmp_path / "docs")["corpus"]["bakery.oven.heat"]
    assert passage == {"_id": "bakery.oven.heat", "title": "", "text": f"{LONG} First kind."}


def test_objects_that_ask_or_answer_nothing_are_left_out(package: Path, tmp_path: Path) -> None:
    # Left out: too short a summary, no body, a summary with the name, a body twice, a summary twice, and all that is
    # private.
    assert list(collect(package, tmp_path / "docs")["corpus"]) == [
        "bakery.oven.Oven",
        "bakery.oven.Oven.clean",
        "bakery.oven.cool",
        "bakery.oven.heat",
        "bakery.twin",
    ]


def test_every_query_keeps_its_own_passage_and_its_relatives_come_before_strangers(
    package: Path, tmp_path: Path
) -> None:
    for seed in range(8):
        collected = collect(package, tmp_path / f"docs-{seed}", num_queries=1, num_passages=4, seed=seed)
        (query_id,) = collected["queries"]
        assert len(collected["corpus"]) == 4
        assert collected["qrels"][query_id][query_id.removeprefix("how-")] == 2
        if query_id == "how-bakery.oven.heat":
            assert collected["qrels"][query_id] == {
                "bakery.oven.heat": 2,
                "bakery.oven.cool": 1,
                "bakery.oven.Oven.clean": 1,
            }


def test_see_also_of_a_passage_that_is_not_kept_is_no_qrel(package: Path, tmp_path: Path) -> None:
    for seed in range(8):
        collected = collect(package, tmp_path / f"docs-{seed}", num_queries=1, num_passages=1, seed=seed)
        assert list(collected["qrels"].values()) == [{next(iter(collected["corpus"])): 2}]


def test_the_same_packages_and_seed_give_the_same_bytes_and_another_seed_others(package: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        collect(package, tmp_path / name, num_queries=2, num_passages=3, seed=seed)
        digests.append(read_manifest(str(tmp_path / name)).digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_collection_is_one_that_prepare_takes(package: Path, tmp_path: Path) -> None:
    collect(package, tmp_path / "docs")
    prepare(PrepareConfig(collection_uri=str(tmp_path / "docs"), output_uri=str(tmp_path / "dataset")))
    dataset = Dataset(tmp_path / "dataset")
    assert dataset.num_passages == len(dataset.queries()) == 5
    assert dataset.query("how-bakery.twin").text == "One of two that look alike"


def test_a_collection_that_was_edited_is_refused_by_prepare(package: Path, tmp_path: Path) -> None:
    collect(package, tmp_path / "docs")
    with (tmp_path / "docs" / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "added", "text": "by hand"}\n')
    with pytest.raises(ValueError, match=r"docs/corpus\.jsonl: \d+ bytes where the manifest says \d+"):
        prepare(PrepareConfig(collection_uri=str(tmp_path / "docs"), output_uri=str(tmp_path / "dataset")))


def test_too_few_objects_are_said_before_anything_is_written(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 documented objects can be used, 6 queries and 6 passages are wanted"):
        collect(package, tmp_path / "docs", num_queries=6, num_passages=6)
    assert not list(tmp_path.glob("docs*"))


def test_a_package_that_is_not_installed_is_named(package: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="package 'brewery' has no Python sources here; install it or leave it out of --packages"
    ):
        collect(package, tmp_path / "docs", packages="bakery brewery")


def test_a_part_of_a_package_is_read_under_its_full_name(package: Path) -> None:
    names = [documented.name for documented in read_objects(find_modules("bakery.oven", [str(package)]))]
    assert names == ["bakery.oven.heat", "bakery.oven.cool", "bakery.oven.Oven", "bakery.oven.Oven.clean"]


def test_the_standard_library_is_read_without_importing_it() -> None:
    modules = dict(find_modules("stdlib"))
    assert {"json.decoder", "asyncio.tasks", "textwrap"} <= set(modules)
    assert not any(name.startswith(("test", "idlelib", "_")) for name in modules)
    assert "textwrap.wrap" in {documented.name for documented in read_objects([("textwrap", modules["textwrap"])])}


def test_the_command_collects_and_does_nothing_the_second_time(package: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "components.prepare.docs",
        "--output-uri",
        str(tmp_path / "docs"),
        "--packages",
        "bakery",
    ]
    command += ["--num-passages", "5", "--num-queries", "2"]
    environment = os.environ | {"PYTHONPATH": str(package)}
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0]
    assert "unchanged, nothing to do" in runs[1].stderr
    assert len((tmp_path / "docs" / "corpus.jsonl").read_text().splitlines()) == 5
