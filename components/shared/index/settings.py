"""What an index says of itself in index.json, whatever engine searches it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

IDS_NAME, SETTINGS_NAME = "passage_ids.arrow", "index.json"
# Key of index.json under which an index in another engine says where it lies; one of FAISS has none.
_PLACE = "milvus"


@dataclass(frozen=True)
class IndexSettings:
    """What an index says of itself; scores are inner products.

    Attributes:
        variant, engine: Who made the vectors: the precision, and the program that computed the encoder's graph.
            Earlier versions knew one program only.
    """

    encoder_digest: str
    dimension: int
    factory: str
    search_parameters: str
    num_passages: int
    vector_dtype: str = "float32"
    variant: str = "fp32"
    engine: str = "onnxruntime"


@dataclass(frozen=True)
class MilvusPlace:
    """Where an index lies that Milvus searches.

    Attributes:
        uri: Of the server, or the path of milvus-lite's folder; it holds no password.
        collection: Its name, which is made of the digest of its content, so that it never means anything else.
        corpus: Digest of the corpus whose passages it holds.
        metric: By which vectors are compared; always the inner product.
    """

    uri: str
    collection: str
    corpus: str
    metric: str = "IP"


def write_settings(folder: Path, settings: IndexSettings, place: MilvusPlace | None = None) -> None:
    """Writes index.json into an existing folder."""
    values: dict[str, Any] = asdict(settings) | ({_PLACE: asdict(place)} if place else {})
    (folder / SETTINGS_NAME).write_bytes(orjson.dumps(values, option=orjson.OPT_INDENT_2))


def read_settings(folder: Path) -> tuple[IndexSettings, MilvusPlace | None]:
    """The settings of an index, and its place where another engine holds it.

    Raises:
        ValueError: Where the folder is not an index.
    """
    try:
        return parse_settings((folder / SETTINGS_NAME).read_bytes())
    except (FileNotFoundError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{folder / SETTINGS_NAME}: not the settings of an index ({error}); build it again") from error


def parse_settings(content: bytes) -> tuple[IndexSettings, MilvusPlace | None]:
    """As `read_settings`, from the bytes of an index.json.

    Raises:
        TypeError, AttributeError, orjson.JSONDecodeError: Where they are none.
    """
    values = orjson.loads(content)
    place = values.pop(_PLACE, None)
    return IndexSettings(**values), MilvusPlace(**place) if place else None


def check_encoder(folder: Path, settings: IndexSettings, encoder_digest: str) -> None:
    """Refuses an index whose vectors another encoder made.

    Raises:
        ValueError: Naming both encoders.
    """
    if settings.encoder_digest != encoder_digest:
        raise ValueError(
            f"{folder}: made by encoder {settings.encoder_digest[:12]}, asked to serve encoder {encoder_digest[:12]}; "
            "their vectors do not mix: use the encoder that made it, or build the index again"
        )
