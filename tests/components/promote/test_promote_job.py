"""What the gate lets through becomes a whole release under an address of its content, and nothing else does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.promote.config import PromoteConfig, StartConfig
from components.promote.job import promote
from components.promote.start import start
from components.shared.contract.pointer import parse_pointer
from components.shared.contract.verdict import write_decision
from components.shared.durable import storage
from components.shared.manifest import open_artifact, read_manifest
from tests.components.serve.served import write_sources


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_sources(folder, seed=0)
    return folder


def _evaluation(folder: Path, word: str, uris: dict[str, str]) -> Path:
    """What promote reads of an evaluation: its verdict, and what it measured."""
    evaluation = folder / f"evaluation-{word}"
    evaluation.mkdir()
    manifest = {"schema_version": 2, "component": "evaluate", "identity": word, "config": {}, "settings": {}}
    inputs = {name.removesuffix("_uri"): read_manifest(uri).digest for name, uri in uris.items()}
    manifest |= {"inputs": inputs, "versions": {}, "seconds": 1.0, "created": "", "files": {}}
    manifest["metrics"] = {"trained_ndcg_10": 0.7, "verdict": word}
    (evaluation / "manifest.json").write_text(json.dumps(manifest))
    write_decision(evaluation, {"verdict": word, "reasons": ["loses at most 1 %"]})
    return evaluation


def _config(sources: Path, tmp_path: Path, word: str, store: str) -> PromoteConfig:
    uris = {f"{name}_uri": str(sources / name) for name in ("dataset", "encoder", "index")}
    evaluation = _evaluation(tmp_path, word, uris)
    return PromoteConfig(**uris, evaluation_uri=str(evaluation), output_uri=str(tmp_path / word), store=store)


@pytest.mark.parametrize("store", ["folder", "memory://bucket/retrievers"])
def test_servers_are_pointed_at_whole_copies_under_an_address_of_their_content(
    sources: Path, tmp_path: Path, store: str
) -> None:
    store = str(tmp_path / "store") if store == "folder" else store
    config = _config(sources, tmp_path, "pass", store)
    promote(config)
    record = json.loads((Path(config.output_uri) / "release.json").read_text())
    digest = record["digest"]
    pointer = f"{store}/pointer.json"
    uris = parse_pointer(pointer, storage.read_bytes(pointer))
    for name, uri in (("encoder", uris.encoder_uri), ("index", uris.index_uri), ("dataset", uris.dataset_uri)):
        assert uri == f"{store}/retrievers/{digest}/{name}"
        assert open_artifact(uri).is_dir()
        # The run's own stays where it was.
        assert read_manifest(uri) == read_manifest(str(sources / name))
    assert read_manifest(config.output_uri).metrics == {"promoted": 1, "release": 1}
    assert (record["verdict"], record["metrics"]) == ("pass", {"trained_ndcg_10": 0.7})
    assert record["collection"] == read_manifest(config.dataset_uri).inputs.get("collection", "")
    kept: dict[str, Any] = json.loads(storage.read_bytes(f"{store}/releases/1.json"))
    assert kept == record == json.loads(storage.read_bytes(pointer))


def test_a_closed_gate_changes_nothing_and_is_no_error(sources: Path, tmp_path: Path) -> None:
    config = _config(sources, tmp_path, "fail", str(tmp_path / "store"))
    promote(config)
    assert not (tmp_path / "store").exists()
    assert read_manifest(config.output_uri).metrics == {"promoted": 0, "release": 0}
    assert json.loads((tmp_path / "fail" / "release.json").read_text())["reasons"] == ["loses at most 1 %"]


def test_what_is_no_evaluation_promotes_nothing(sources: Path, tmp_path: Path) -> None:
    config = _config(sources, tmp_path, "pass", str(tmp_path / "store"))
    (tmp_path / "evaluation-pass" / "gate.json").unlink()
    with pytest.raises(ValueError, match=r"gate.json: no verdict of a gate"):
        promote(config)
    assert not (tmp_path / "store").exists()


def test_a_verdict_on_another_encoder_promotes_nothing(sources: Path, tmp_path: Path) -> None:
    write_sources(tmp_path / "other", seed=1)
    uris = {f"{name}_uri": str(tmp_path / "other" / name) for name in ("dataset", "encoder", "index")}
    config = replace(_config(sources, tmp_path, "pass", str(tmp_path / "store")), **uris)
    with pytest.raises(ValueError, match="evaluate measured another encoder and another index than what is to be"):
        promote(config)
    assert not (tmp_path / "store").exists()


def test_a_run_takes_the_place_of_the_release_that_its_gate_compared_with_and_of_no_other(
    sources: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    promoted = _config(sources, tmp_path, "pass", store)
    nothing = _started(tmp_path / "nothing", sources, f"{store}/pointer.json")
    promote(replace(promoted, start_uri=nothing))
    assert json.loads((tmp_path / "store" / "pointer.json").read_bytes())["release"] == 1
    # Done once more after a kill, it finds itself served and needs nobody's place.
    promote(replace(promoted, start_uri=nothing, output_uri=str(tmp_path / "again")))
    write_sources(tmp_path / "other", seed=1)
    other = _config(tmp_path / "other", tmp_path / "other", "pass", store)
    with pytest.raises(ValueError, match=r"release 1 is served, and the gate compared with release 0; run again"):
        promote(replace(other, start_uri=nothing))
    assert json.loads((tmp_path / "store" / "pointer.json").read_bytes())["release"] == 1


def _started(folder: Path, sources: Path, pointer_uri: str) -> str:
    """What a run went on from, as the store is now."""
    output = str(folder / "start")
    config = StartConfig(
        collection_uri=str(sources), checkpoint_uri="org/model", pointer_uri=pointer_uri, output_uri=output
    )
    start(config)
    return output


def test_the_store_must_be_named() -> None:
    places = dict.fromkeys(("dataset_uri", "encoder_uri", "index_uri", "evaluation_uri", "output_uri"), "x")
    with pytest.raises(ValueError, match=r"store '': nowhere to promote to"):
        PromoteConfig(**places)
