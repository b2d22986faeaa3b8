"""Engines: the same vectors from each, refused by name where they are not, chosen by what is fast and proven."""

import hashlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from components.index.config import IndexConfig
from components.index.engine import CHOICE_NAME, open_encoder, passages_per_second
from components.index.job import build_index
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.encoding.encoder import GRAPH_NAME, Encoder
from components.shared.encoding.engines import processor, records
from components.shared.encoding.engines.proof import Gates, broken_gate
from components.shared.encoding.engines.records import PRECISIONS, Maker, other_makers
from components.shared.index.opening import open_pair
from components.shared.manifest import open_artifact, read_manifest
from tests.components.index.test_index_job import WORDS, write_dataset
from tests.tiny_encoder import write_tiny_encoder

needs_openvino = pytest.mark.skipif(
    not records.ENGINES["openvino"].is_installed(), reason="OpenVINO is not installed: pip install openvino"
)
needs_no_bf16 = pytest.mark.skipif(PRECISIONS["bf16"].is_fast(), reason="this processor computes in bf16")
TEXTS = ["", " ", "red", "red green blue", "blue " * 5000, "red " * 20]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, an encoder, and an index by each engine that is here."""
    folder = tmp_path_factory.mktemp("engines")
    write_dataset(folder / "dataset", judged=True)
    write_tiny_encoder(folder / "encoder", 1, WORDS)
    for engine in ("onnxruntime", "openvino"):
        if records.ENGINES[engine].is_installed():
            build_index(config_of(folder, engine=engine, output_uri=str(folder / engine)))
    return folder


def config_of(world: Path, **settings: object) -> IndexConfig:
    uris = {
        "dataset_uri": str(world / "dataset"),
        "encoder_uri": str(world / "encoder"),
        "output_uri": str(world / "index"),
    }
    quick = {"num_threads": 2, "hybrid_queries": 0, "num_recall_queries": 8}
    return IndexConfig(**{**uris, **quick, **settings})  # type: ignore[arg-type]


def forget_proofs(world: Path, name: str, copy: Path, **changes: object) -> str:
    """A copy of an index whose manifest holds no proof, as one of an earlier version, and with other settings."""
    folder = copy / name
    folder.mkdir()
    for path in (world / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = orjson.loads((folder / storage.MANIFEST_NAME).read_bytes())
    manifest["metrics"].pop("engines", None)
    settings = folder / "index.json"
    settings.write_bytes(orjson.dumps(orjson.loads(settings.read_bytes()) | changes))
    content = settings.read_bytes()
    manifest["files"]["index.json"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / storage.MANIFEST_NAME).write_bytes(orjson.dumps(manifest))
    return str(folder)


@needs_openvino
def test_both_engines_give_the_same_vectors_alone_and_in_a_batch(world: Path) -> None:
    expected = Encoder(world / "encoder", num_threads=1).encode_queries(TEXTS)
    encoder = Encoder(world / "encoder", num_threads=1, engine="openvino", num_streams=2)
    assert encoder.maker == Maker("openvino", "fp32")
    token_ids = encoder.tokenize_queries(TEXTS * 3)
    together = encoder.encode_tokens(token_ids, num_workers=4)
    assert np.abs(together - np.tile(expected, (3, 1))).max() < 1e-5
    alone = np.concatenate([encoder.encode_queries([text]) for text in TEXTS])
    assert np.abs(alone - expected).max() < 1e-5


@needs_openvino
@needs_no_bf16
def test_bf16_that_the_processor_lacks_is_not_a_rival_and_is_recorded_as_what_was_computed(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Maker("openvino", "bf16") not in other_makers(frozenset({"fp32"}))
    encoder = Encoder(world / "encoder", num_threads=1, engine="openvino", variant="bf16")
    assert encoder.maker == Maker("openvino", "fp32")
    assert "takes 16 times as long as fp32 on AVX2" in capsys.readouterr().err


def test_bf16_is_a_rival_where_a_flag_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "flags", lambda: frozenset({"avx2", "amx_bf16"}))
    assert PRECISIONS["bf16"].is_fast()
    monkeypatch.setattr(records, "flags", lambda: frozenset({"avx2", "avx512_vnni"}))
    assert not PRECISIONS["bf16"].is_fast()


def test_only_amx_makes_bf16_fast_for_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, computes, surely in (
        ({"avx2"}, False, False),
        ({"avx2", "avx512_bf16"}, True, False),
        ({"avx2", "avx512_bf16", "amx_bf16"}, True, True),
    ):
        monkeypatch.setattr(records, "flags", lambda flags=flags: frozenset(flags))
        assert (PRECISIONS["bf16"].is_fast(), PRECISIONS["bf16"].is_surely_fast()) == (computes, surely)


@needs_openvino
def test_several_jobs_take_bf16_by_the_flags_only_where_it_is_fast_for_certain(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, dataset = config_of(world, product="vectors", num_shards=2), Dataset(world / "dataset")
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    # AVX-512 BF16 alone was slower than fp32, and several jobs that must agree measure nothing.
    monkeypatch.setattr(records, "flags", lambda: frozenset({"avx512_bf16"}))
    # As one job does of a small corpus.
    _, said = open_encoder(config, dataset, tmp_path / "small")
    assert "fewer than 5000 passages" in said["engine_reason"]
    monkeypatch.setattr("components.index.engine.FEWEST_PASSAGES", 10)
    encoder, said = open_encoder(config, dataset, tmp_path / "large")
    assert (str(encoder.maker), said["engine_passages_per_second"]) == ("onnxruntime fp32", {})
    assert "by the processor's flags" in said["engine_reason"]


def test_the_flags_are_those_of_the_first_processor_and_none_where_the_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx2 amx_bf16 avx512_bf16\nprocessor : 1\n")
    assert processor.flags_of(tmp_path / "cpuinfo") == {"avx2", "amx_bf16", "avx512_bf16"}
    assert processor.flags_of(tmp_path / "none") == frozenset()


def test_an_engine_that_is_missing_names_its_extra(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"engine openvino: .* pip install 'retriever-pipeline\[openvino\]'"):
        Encoder(world / "encoder", engine="openvino")


def test_an_engine_refuses_a_precision_that_it_lacks(world: Path) -> None:
    with pytest.raises(ValueError, match=r"onnxruntime: does not compute in bf16, .* or engine openvino"):
        Encoder(world / "encoder", variant="bf16")


@needs_openvino
def test_a_damaged_graph_is_refused_by_openvino_too(world: Path, tmp_path: Path) -> None:
    for path in (world / "encoder").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / GRAPH_NAME).write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"model.onnx: OpenVINO cannot read it"):
        Encoder(tmp_path, engine="openvino")


@needs_openvino
def test_a_forked_child_is_told_to_open_the_encoder_itself(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(world / "encoder", num_threads=1, engine="openvino")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="opened before the process forked"):
        encoder.encode_queries(["red"])


@needs_openvino
def test_an_index_says_who_made_its_vectors_and_what_was_proven(world: Path) -> None:
    metrics = read_manifest(str(world / "openvino")).metrics
    assert (metrics["engine"], metrics["variant"], metrics["engine_reason"]) == ("openvino", "fp32", "asked for")
    proof = metrics["engines"]["openvino fp32"]
    assert proof["passed"]
    assert proof["largest_difference"] < 1e-5
    assert read_manifest(str(world / "onnxruntime")).metrics["engines"] == {}


@needs_openvino
def test_auto_searches_with_the_engine_of_the_index(world: Path) -> None:
    for engine in ("onnxruntime", "openvino"):
        encoder, index = open_pair(str(world / "encoder"), str(world / engine))
        assert encoder.engine == engine
        assert index.settings.engine == engine


@needs_openvino
def test_another_engine_searches_where_its_gate_was_held(world: Path) -> None:
    for engine, other in (("onnxruntime", "openvino"), ("openvino", "onnxruntime")):
        encoder, index = open_pair(str(world / "encoder"), str(world / engine), engine=other)
        same, _ = open_pair(str(world / "encoder"), str(world / engine))
        texts = ["red green", "blue"]
        ids = [[hit.passage_id for hit in hits] for hits in index.search(encoder.encode_queries(texts), 3)]
        assert ids == [[hit.passage_id for hit in hits] for hits in index.search(same.encode_queries(texts), 3)]


@needs_openvino
def test_an_index_of_another_precision_without_a_recorded_gate_is_refused_by_name(world: Path, tmp_path: Path) -> None:
    uri = forget_proofs(world, "openvino", tmp_path, variant="bf16")
    with pytest.raises(ValueError, match="made by openvino bf16, queries would be encoded by onnxruntime fp32, and no"):
        open_pair(str(world / "encoder"), uri, engine="onnxruntime")


def test_an_engine_of_a_later_version_is_refused_by_name(world: Path, tmp_path: Path) -> None:
    uri = forget_proofs(world, "onnxruntime", tmp_path, engine="tensorrt")
    with pytest.raises(ValueError, match="made by tensorrt fp32, which this version does not know"):
        open_pair(str(world / "encoder"), uri)


def test_an_index_of_an_earlier_version_was_made_by_the_reference_engine(world: Path, tmp_path: Path) -> None:
    uri = forget_proofs(world, "onnxruntime", tmp_path)
    settings = Path(uri) / "index.json"
    assert orjson.loads(settings.read_bytes())["engine"] == "onnxruntime"
    encoder, index = open_pair(str(world / "encoder"), uri)
    assert encoder.maker == Maker("onnxruntime", index.settings.variant)


def test_auto_keeps_the_reference_for_a_corpus_that_is_not_worth_a_measurement(world: Path, tmp_path: Path) -> None:
    encoder, said = open_encoder(config_of(world), Dataset(open_artifact(str(world / "dataset"))), tmp_path)
    assert encoder.engine == "onnxruntime"
    assert "not worth a measurement" in said["engine_reason"] or "no other engine" in said["engine_reason"]


@needs_openvino
def test_a_killed_job_goes_on_with_the_engine_that_it_had_chosen(world: Path, tmp_path: Path) -> None:
    chosen = {"maker": ["openvino", "fp32"], "reason": "earlier", "speeds": {}}
    (tmp_path / CHOICE_NAME).write_bytes(orjson.dumps(chosen))
    encoder, said = open_encoder(config_of(world), Dataset(open_artifact(str(world / "dataset"))), tmp_path)
    assert (encoder.engine, said["engine_reason"]) == ("openvino", "earlier")


def test_vectors_of_an_engine_that_is_gone_are_thrown_away(world: Path, tmp_path: Path) -> None:
    (tmp_path / CHOICE_NAME).write_bytes(orjson.dumps({"maker": ["gone", "fp32"], "reason": "", "speeds": {}}))
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "vectors-000000000000.npy").write_bytes(b"")
    encoder, _ = open_encoder(config_of(world), Dataset(open_artifact(str(world / "dataset"))), tmp_path)
    assert encoder.engine == "onnxruntime"
    assert list((tmp_path / "vectors").iterdir()) == []


def test_a_measured_second_tells_a_slow_way_from_a_fast_one() -> None:
    fast, slow = passages_per_second(
        [lambda _: time.sleep(0.001), lambda _: time.sleep(0.01)], [[1]] * 64, seconds=0.05
    )
    assert fast > 3 * slow


@pytest.mark.parametrize(
    ("change", "is_exact", "problem"),
    [
        ({}, False, ""),
        ({"overlap_10_mixed": 0.5}, False, "overlap_10_mixed to torch is 0.5000, the gate is 0.8"),
        ({"ndcg_10_drift": -0.02, "p_value": 0.04}, False, "nDCG@10 falls by 0.0200 (p = 0.040), allowed are 0.01"),
        ({"largest_difference": 1e-3}, True, "ONNX vectors differ from torch's by 1.00e-03, allowed are 1e-05"),
        ({"largest_difference": float("nan")}, True, "ONNX vectors differ from torch's by nan, allowed are 1e-05"),
    ],
)
def test_each_gate_says_what_broke_it(change: dict[str, float], is_exact: bool, problem: str) -> None:
    good = {"mean_cosine": 1.0, "overlap_10": 1.0, "overlap_10_mixed": 1.0, "batch_cosine": 1.0}
    assert broken_gate(good | {"largest_difference": 0.0} | change, Gates(), is_exact=is_exact) == problem


@needs_openvino
def test_importing_openvino_sends_no_telemetry(world: Path) -> None:
    Encoder(world / "encoder", num_threads=1, engine="openvino")
    # Its own stub takes the package's place; the package would write into the home folder and call home.
    assert "openvino_telemetry" not in sys.modules


@needs_openvino
def test_auto_measures_the_engines_that_are_here_and_says_what_it_saw(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.index.engine.FEWEST_PASSAGES", 10)
    monkeypatch.setattr("components.index.engine._SECONDS", 0.05)
    encoder, said = open_encoder(config_of(world), Dataset(open_artifact(str(world / "dataset"))), tmp_path)
    speeds = said["engine_passages_per_second"]
    assert {"onnxruntime fp32", "openvino fp32"} <= speeds.keys()
    # With AVX-512 BF16 or AMX a third one is measured, which may break a gate; an exact one does not.
    faster = {name for name, speed in speeds.items() if speed >= 1.1 * speeds["onnxruntime fp32"]}
    assert str(encoder.maker) in (faster if "openvino fp32" in faster else faster | {"onnxruntime fp32"})
    assert orjson.loads((tmp_path / CHOICE_NAME).read_bytes())["speeds"] == speeds
