"""The tiny corpus, the packaged models, and the fakes of outside things."""

import gc
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Before anything of ours is imported: shapes in signatures are checked in every test, in the modules that have any,
# spelt out or by a name that another module gives them. The check binds the arguments of every call anew, so that all
# other types are left to mypy.
_ROOMS = Path(__file__).parents[1] / "components"
_TEXTS = {path: path.read_text("utf-8") for path in _ROOMS.glob("*/**/*.py")}
_NAMED = re.compile(r"^(\w+)(?:: TypeAlias)? = (?:Bool|Float|Int|Num|Shaped|UInt)\w*\[", re.MULTILINE)
_NAMES = {name for text in _TEXTS.values() if "jaxtyping" in text for name in _NAMED.findall(text)}
_SHAPED = re.compile(rf"jaxtyping|\bimport (?:\([^)]*|.*)\b(?:{'|'.join(sorted(_NAMES))})\b")
_CHECKED = [
    ".".join(path.relative_to(_ROOMS.parent).with_suffix("").parts)
    for path, text in _TEXTS.items()
    if _SHAPED.search(text)
]
install_import_hook(_CHECKED, "beartype.beartype")
# A shared machine's speed is not a property of the code.
settings.register_profile("retriever", deadline=None)
settings.load_profile("retriever")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RETRIEVER_LOG"] = "json"

pytest_plugins = ["tests.docker_daemon", "tests.bucket", "tests.light_images", "tests.loopback_registry"]

# A worker holds millions of objects of imported libraries. Looking at all of them took most of a second of every
# `gc.collect()`, and libraries call it often (statsmodels before each of its corrections, torch in its exports): what
# is there when the tests have been collected is left alone, and nothing is looked for while modules are imported.
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first (with xdist's --no-loadscope-reorder): no worker begins one when the others end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    whole = {item.path for item in items} - {item.path for item in items if not item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in whole, item.path not in slow))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


_TOPICS = {
    "volcano": "A volcano erupts when magma rises through a vent; lava, ash and gas come out of the crater.",
    "glacier": "A glacier is a slow river of ice that carves valleys and carries moraine down the mountain.",
    "violin": "The violin has four strings tuned in fifths and is played with a bow of horse hair.",
    "bakery": "Sourdough bread rises because wild yeast and bacteria in the starter make gas and acid.",
    "harbour": "Tides in the harbour rise and fall twice a day because the moon pulls on the sea.",
    "beehive": "Honey bees dance in the hive to tell the others in which direction the flowers are.",
}
_ASPECTS = ("history", "measurement", "danger", "season", "craft")


def write_collection(folder: Path) -> Path:
    """30 passages, 24 queries with splits 12/6/6, in BEIR layout; each query asks for one passage."""
    folder.mkdir(parents=True, exist_ok=True)
    passages, queries, qrels = [], [], []
    for topic, text in _TOPICS.items():
        for number, aspect in enumerate(_ASPECTS):
            passage_id = f"{topic}-{aspect}"
            passages.append(
                {"_id": passage_id, "title": f"{topic} {aspect}", "text": f"{text} This page is about its {aspect}."}
            )
            if number < 4:
                queries.append({"_id": f"q-{passage_id}", "text": f"what is known about the {aspect} of a {topic}"})
                qrels.append((f"q-{passage_id}", passage_id, ("train", "train", "dev", "test")[number]))
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels").mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        rows = "".join(f"{query}\t{passage}\t1\n" for query, passage, its in qrels if its == split)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


@pytest.fixture
def tiny_collection(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "collection")


@pytest.fixture(scope="session")
def minilm() -> Path:
    from pipelines.packaged import find_encoder

    return find_encoder()


@pytest.fixture(scope="session")
def retriever_data() -> Path:
    """Real collections; RETRIEVER_DATA names the folder, ../shared/data is the default."""
    folder = Path(os.environ.get("RETRIEVER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real collections at {folder}; set RETRIEVER_DATA")
    return folder
