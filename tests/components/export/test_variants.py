"""Smaller graphs: near enough to fp32, the same alone and in a batch, or the job fails."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from components.export.config import ExportConfig
from components.export.job import check_gates, export
from components.export.variants import parse_variants, quantise
from components.shared.encoding.encoder import GRAPH_NAMES, Encoder
from components.shared.encoding.engines.drift import ndcg, sign_flip_test
from components.shared.manifest import open_artifact, read_manifest
from tests.components.index.test_index_job import WORDS as CORPUS_WORDS
from tests.components.index.test_index_job import write_dataset
from tests.tiny_checkpoint import write_tiny_checkpoint

WORDS = ["volcano", "glacier", "violin", "query", "the", "of", "a", "caf", "index", ",", ":"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a judged dataset, and an encoder with all variants."""
    folder = tmp_path_factory.mktemp("world")
    write_tiny_checkpoint(folder / "checkpoint", [*WORDS, *CORPUS_WORDS])
    write_dataset(folder / "dataset", judged=True)
    export(config_of(folder, max_drift=1.0))
    return folder


def config_of(world: Path, **settings: object) -> ExportConfig:
    uris = {
        "checkpoint_uri": str(world / "checkpoint"),
        "output_uri": str(world / "encoder"),
        "dataset_uri": str(world / "dataset"),
    }
    return ExportConfig(**{**uris, "variants": "fp32,fp16,int8", "drift_passages": 300, **settings})  # type: ignore[arg-type]


def reports_of(world: Path) -> dict[str, dict[str, Any]]:
    return read_manifest(str(world / "encoder")).metrics["variants"]  # type: ignore[no-any-return]


def test_every_variant_is_measured_and_loadable(world: Path) -> None:
    reports = reports_of(world)
    assert list(reports) == ["fp32", "fp16", "int8"]
    assert reports["fp32"]["largest_difference"] < 1e-6
    assert reports["fp16"]["smallest_cosine"] > 0.999
    assert reports["int8"]["mean_cosine"] > 0.99
    assert all(
        report["provider"] == "CPUExecutionProvider" and report["num_texts"] == 64 for report in reports.values()
    )
    folder = open_artifact(str(world / "encoder"))
    assert len({Encoder(folder, variant=variant).digest for variant in ("fp32", "fp16", "int8")}) == 1


def test_drift_in_retrieval_is_measured_with_a_paired_test(world: Path) -> None:
    for variant in ("fp16", "int8"):
        report = reports_of(world)[variant]
        assert report["num_queries"] == 100
        assert 0 < report["ndcg_10"] < 1
        assert 0 < report["p_value"] <= 1
    assert "ndcg_10" not in reports_of(world)["fp32"]


def test_an_int8_vector_does_not_depend_on_its_neighbours(world: Path) -> None:
    encoder = Encoder(world / "encoder", variant="int8")
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size=random.integers(1, 40))) for _ in range(32)]
    together = encoder.encode_queries(texts, batch_tokens=100_000)
    alone = np.concatenate([encoder.encode_queries([text]) for text in texts])
    assert (together * alone).sum(1).min() > 0.9999


def test_a_variant_that_breaks_its_gate_fails_the_job_and_leaves_nothing(world: Path) -> None:
    # Which of the two it breaks depends on how the processor multiplies int8.
    strictest = {"variants": "fp32,int8", "min_cosine": 1.0, "min_overlap": 1.0}
    message = r"int8: (mean_cosine|overlap_10\w*) to torch is \d.\d+, the gate is 1.0; leave the variant out"
    with pytest.raises(ValueError, match=message):
        export(config_of(world, output_uri=str(world / "refused"), **strictest))
    assert not (world / "refused").exists()


@pytest.mark.parametrize(
    ("variant", "change", "problem"),
    [
        ("int8", {"mean_cosine": 0.9}, r"m: int8: mean_cosine to torch is 0.9000, the gate is 0.98"),
        ("int8", {"overlap_10": 0.5}, r"overlap_10 to torch is 0.5000, the gate is 0.8"),
        ("fp16", {"batch_cosine": 0.99}, r"m: fp16: batch_cosine to torch is 0.9900, the gate is 0.999"),
        ("int8", {"ndcg_10_drift": -0.02}, r"nDCG@10 falls by 0.0200 \(p = 0.040\), allowed are 0.01"),
        ("int8", {"mean_cosine": float("nan")}, "mean_cosine to torch is nan"),
        ("int8", {"ndcg_10_drift": float("nan")}, "nDCG@10 falls by nan"),
        (
            "fp32",
            {"largest_difference": 1e-4},
            r"m: fp32: ONNX vectors differ from torch's by 1.00e-04, allowed are 1e-05",
        ),
    ],
)
def test_each_gate_names_variant_measure_and_limit(variant: str, change: dict[str, float], problem: str) -> None:
    good = {
        "mean_cosine": 1.0,
        "overlap_10": 1.0,
        "batch_cosine": 1.0,
        "largest_difference": 0.0,
        "ndcg_10_drift": 0.01,
        "p_value": 0.04,
    }
    config = ExportConfig(checkpoint_uri="m", output_uri="e")
    check_gates(config, variant, good)
    with pytest.raises(ValueError, match=problem):
        check_gates(config, variant, good | change)


def test_a_changed_byte_of_a_smaller_graph_is_refused(world: Path) -> None:
    path = world / "encoder" / GRAPH_NAMES["int8"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"model_int8.onnx: not the graph that encoder.json names"):
        Encoder(world / "encoder", variant="int8")
    path.write_bytes(content)
    Encoder(world / "encoder", variant="int8")


def test_integers_and_scales_by_hand() -> None:
    # x = (1, -0.5): scale 1/127, integers 127 and -64 (63.5 rounds to even). W = ((2, 0), (1, -4)): columns' scales
    # 2/127 and 4/127, integers (127, 64) and (0, -127). First sum: 127 * 127 - 64 * 64 = 12033, times 2/127^2 = 1.4921;
    # exact would be 1.5.
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        initializer=[numpy_helper.from_array(np.array([[2, 0], [1, -4]], dtype=np.float32), "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert quantise(model) == 1
    onnx.checker.check_model(model)
    (product,) = ReferenceEvaluator(model).run(None, {"x": np.array([[1, -0.5]], dtype=np.float32)})
    assert product[0] == pytest.approx([12033 * 2 / 127**2, 64 * 127 * 4 / 127**2], rel=1e-6)


def test_ndcg_by_hand() -> None:
    # Ranking: passages 2, 0, 1; grades 2 for passage 0 and 1 for passage 1: dcg = 2 / log2(3) + 1 / log2(4), ideal = 2
    # / 1 + 1 / log2(3).
    (value,) = ndcg(np.array([[0.5, 0.1, 0.9]], dtype=np.float32), [{0: 2, 1: 1}])
    assert value == pytest.approx((2 / np.log2(3) + 0.5) / (2 + 1 / np.log2(3)))


def test_a_sign_flip_test_by_hand() -> None:
    # Three equal differences: only two of the eight sign patterns give a mean as far from zero: p = 1/4.
    assert sign_flip_test(np.array([0.1, 0.1, 0.1]), seed=0) == pytest.approx(0.25, abs=0.02)
    assert sign_flip_test(np.zeros(5), seed=0) == 1.0
    assert sign_flip_test(np.full(50, 0.1), seed=0) < 0.001


def test_variants_are_named_in_any_order_and_unknown_ones_refused() -> None:
    assert parse_variants("int8, fp32") == ["fp32", "int8"]
    assert parse_variants("") == ["fp32"]
    with pytest.raises(ValueError, match=r"unknown is 'int4'; known are fp32, fp16, int8"):
        parse_variants("fp32,int4")


def test_smaller_graphs_of_a_large_encoder_keep_their_weights_beside_them_and_in_their_digest(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "checkpoint", WORDS)
    config = ExportConfig(
        checkpoint_uri=str(source), output_uri=str(tmp_path / "encoder"), variants="fp32,fp16,int8", min_overlap=0.0
    )
    export(config, max_graph_bytes=1)
    folder = tmp_path / "encoder"
    for variant in ("fp16", "int8"):
        path = folder / f"{GRAPH_NAMES[variant]}_data"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=r"not the graph that encoder.json names"):
            Encoder(folder, variant=variant)
        path.write_bytes(content)
        Encoder(folder, variant=variant)
