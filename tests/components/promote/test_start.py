"""What a run starts from: the base model, the checkpoint that is served, or nothing because nothing changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.promote.config import StartConfig
from components.promote.start import start
from components.shared.durable import storage
from components.shared.manifest import compute_identity, followed, input_digests, is_finished, read_manifest


@pytest.fixture
def config(tmp_path: Path) -> StartConfig:
    (tmp_path / "corpus.jsonl").write_text("{}\n")
    return StartConfig(
        collection_uri=str(tmp_path / "corpus.jsonl"),
        checkpoint_uri="org/model",
        pointer_uri=str(tmp_path / "store" / "pointer.json"),
        output_uri=str(tmp_path / "start"),
    )


def _serve(config: StartConfig, **values: Any) -> None:
    pointer = {"encoder_uri": "e", "index_uri": "i", "checkpoint_uri": "c", "digest": "d", "release": 3, **values}
    storage.write_bytes(config.pointer_uri, json.dumps(pointer).encode())


def _found(config: StartConfig) -> dict[str, Any]:
    return read_manifest(config.output_uri).metrics


def test_where_nothing_is_served_a_run_starts_from_the_base_model(config: StartConfig) -> None:
    start(config)
    assert _found(config) == {"verdict": "pass", "release": 0}
    assert followed(config.output_uri) == "org/model"


def test_what_is_served_is_trained_further_on_another_corpus(config: StartConfig) -> None:
    _serve(config, collection="another")
    start(config)
    assert _found(config) == {"verdict": "pass", "release": 3}
    assert followed(config.output_uri) == "c"


def test_where_what_is_served_was_made_of_this_corpus_there_is_nothing_to_do(config: StartConfig) -> None:
    _serve(config, collection=storage.content_digest(config.collection_uri), checkpoint_uri="")
    start(config)
    assert _found(config) == {"verdict": "fail", "release": 3}


def test_a_release_without_a_checkpoint_cannot_be_gone_on_from(config: StartConfig) -> None:
    _serve(config, checkpoint_uri="")
    with pytest.raises(ValueError, match=r"pointer.json: release 3 holds no checkpoint, so training cannot go on"):
        start(config)


def test_a_promotion_makes_the_store_be_looked_at_again(config: StartConfig) -> None:
    start(config)
    assert is_finished(config.output_uri, compute_identity("promote.start", config, input_digests(config)))
    _serve(config)
    assert not is_finished(config.output_uri, compute_identity("promote.start", config, input_digests(config)))


def test_an_address_that_is_no_pointer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pointer_uri 's3://bucket/store': no pointer of a store; name one"):
        StartConfig(collection_uri="c", checkpoint_uri="b", pointer_uri="s3://bucket/store", output_uri="o")
