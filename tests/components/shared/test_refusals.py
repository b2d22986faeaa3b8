"""One changed byte of an encoder or index is refused by every reader, whether or not its manifest was made to fit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.index.config import IndexConfig
from components.index.job import build_index
from components.serve.config import ServeConfig
from components.serve.service import Service
from components.shared.durable.storage import MANIFEST_NAME
from components.shared.hashing import file_digest
from tests.components.index.test_index_job import WORDS, write_dataset
from tests.tiny_encoder import write_tiny_encoder


@pytest.fixture(scope="module")
def unspoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unspoilt")
    write_dataset(folder / "dataset", judged=True)
    write_tiny_encoder(folder / "encoder", 1, WORDS, query_prefix="query: ", passage_prefix="passage: ")
    index(folder, "index")
    return folder


@pytest.fixture
def world(unspoilt: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(unspoilt, tmp_path, dirs_exist_ok=True)


def index(world: Path, name: str = "again") -> None:
    places = {
        "dataset_uri": str(world / "dataset"),
        "encoder_uri": str(world / "encoder"),
        "output_uri": str(world / name),
    }
    build_index(IndexConfig(**places, num_threads=1))


def measure(world: Path) -> None:
    pair = {"encoder_uri": str(world / "encoder"), "index_uri": str(world / "index")}
    base = {f"base_{name}": uri for name, uri in pair.items()}
    places = {"dataset_uri": str(world / "dataset"), "output_uri": str(world / "evaluation")}
    evaluate(EvaluateConfig(**pair, **base, **places, split="dev", num_resamples=100))


def serve(world: Path) -> None:
    Service(ServeConfig(encoder_uri=str(world / "encoder"), index_uri=str(world / "index")))


def sign(folder: Path, name: str) -> None:
    """Makes the manifest fit a changed file, as somebody would who edits settings by hand."""
    manifest = orjson.loads((folder / MANIFEST_NAME).read_bytes())
    manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
    (folder / MANIFEST_NAME).write_bytes(orjson.dumps(manifest))


every_reader = pytest.mark.parametrize("read", [index, measure, serve])


@every_reader
@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"pooling": "mean"', b'"pooling": "meam"'), (b'"query: "', b'"query; "'), (b'"passage: "', b'"passage:_"')],
    ids=["pooling", "query_prefix", "passage_prefix"],
)
@pytest.mark.parametrize("signed", [False, True], ids=["", "signed"])
def test_a_changed_byte_of_the_encoders_settings_is_refused(
    world: Path, read: Callable[[Path], None], before: bytes, after: bytes, signed: bool
) -> None:
    path = world / "encoder" / "encoder.json"
    content = path.read_bytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    if signed:
        sign(world / "encoder", "encoder.json")
    with pytest.raises(
        ValueError, match=r"their vectors do not mix" if signed else r"encoder.json: content differs from the manifest"
    ):
        read(world)


@pytest.mark.parametrize("read", [measure, serve])
@pytest.mark.parametrize("name", ["index.faiss", "passage_ids.arrow", "index.json"])
@pytest.mark.parametrize("change", ["cut", "flip"])
def test_a_damaged_index_is_refused(world: Path, read: Callable[[Path], None], name: str, change: str) -> None:
    path = world / "index" / name
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        content[:-1] if change == "cut" else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
    with pytest.raises(
        ValueError, match=rf"{name}: (\d+ bytes where the manifest says|content differs from the manifest)"
    ):
        read(world)


@pytest.mark.parametrize("read", [measure, serve])
def test_an_index_of_another_encoder_is_refused(world: Path, read: Callable[[Path], None], tmp_path: Path) -> None:
    write_tiny_encoder(world / "encoder", 2, WORDS)
    with pytest.raises(ValueError, match=r"made by encoder .*, asked to serve encoder .*; their vectors do not mix"):
        read(world)
