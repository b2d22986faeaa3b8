"""Smaller graphs of an encoder: half the bytes for GPUs (fp16), integer multiplications for CPUs (int8).

Dynamic quantisation as ONNX Runtime offers it scales a whole batch at once, so that a vector depends on its neighbours
(cosine 0.992 alone against inside a batch). Here every token has a scale of its own, and every column of a weight: a
token's integers are the same in any batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from components.export.graph import MAX_GRAPH_BYTES, SMALLEST_OUTSIDE_BYTES
from components.shared.encoding.encoder import GRAPH_NAME, GRAPH_NAMES, WEIGHTS_SUFFIX, Variant

# Sums over a text and over a vector stay in fp32; layer norms and softmax sum in fp32 anyway on a GPU.
_FP32_OPERATORS = [*DEFAULT_OP_BLOCK_LIST, "ReduceSum", "ReduceL2"]
_CONSTANTS: dict[str, np.ndarray] = {
    "int8_zero_point": np.array(128, dtype=np.uint8),
    "int8_offset": np.array(128.0, dtype=np.float32),
    "int8_largest": np.array(127.0, dtype=np.float32),
    # A token of zeros must not divide by zero.
    "int8_smallest": np.array(1e-10, dtype=np.float32),
    "int8_last_axis": np.array([-1], dtype=np.int64),
}


def parse_variants(text: str) -> list[Variant]:
    """Names of the graphs, fp32 first.

    Raises:
        ValueError: Naming one that is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in GRAPH_NAMES:
            raise ValueError(f"--variants {text}: unknown is {name!r}; known are {', '.join(GRAPH_NAMES)}")
    smaller: tuple[Variant, ...] = ("fp16", "int8")
    return ["fp32", *(name for name in smaller if name in names)]


def write_variant(folder: Path, variant: str, *, max_graph_bytes: int = MAX_GRAPH_BYTES) -> None:
    """Writes a smaller graph beside the fp32 one, weights beyond `max_graph_bytes` into a file of their own.

    Inputs and outputs stay the same.
    """
    model = onnx.load(folder / GRAPH_NAME, load_external_data=False)
    # Shapes first, without the weights: with them a graph can be too large for shape inference.
    model = onnx.shape_inference.infer_shapes(model)
    load_external_data_for_model(model, str(folder))
    if variant == "fp16":
        with warnings.catch_warnings():
            # Weights below the smallest half are told one by one; the parity check says whether that matters.
            warnings.simplefilter("ignore")
            model = convert_float_to_float16(
                model, keep_io_types=True, op_block_list=_FP32_OPERATORS, disable_shape_infer=True
            )
    else:
        quantise(model)
    name = GRAPH_NAMES[variant]
    onnx.save(
        model,
        str(folder / name),
        save_as_external_data=sum(tensor.ByteSize() for tensor in model.graph.initializer) > max_graph_bytes,
        location=f"{name}{WEIGHTS_SUFFIX}",
        size_threshold=SMALLEST_OUTSIDE_BYTES,
    )


def quantise(model: onnx.ModelProto) -> int:
    """Turns every product of activations with a constant matrix into one of 8-bit integers, in place; returns how many.

    x W is scale(x) scale(W) (q(x) q(W)): q(x) has a scale a token, unsigned with its zero at 128 because x86 multiplies
    unsigned by signed; q(W) has a scale a column, signed.
    """
    graph = model.graph
    weights = {
        tensor.name: tensor
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT
    }
    quantised: dict[str, str] = {}
    nodes: list[NodeProto] = []
    num_products = 0
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        activations = node.input[0]
        if activations not in quantised:
            # Query, key and value read the same activations: one quantisation serves the three.
            quantised[activations] = f"int8_{len(quantised)}"
            nodes += _quantised_rows(activations, quantised[activations])
        name = f"int8_product_{num_products}"
        graph.initializer.extend(_quantised_columns(numpy_helper.to_array(weights[node.input[1]]), name))
        nodes += _product(quantised[activations], name, node.output[0])
        num_products += 1
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items())
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    return num_products


def _quantised_rows(activations: str, name: str) -> list[NodeProto]:
    return [
        helper.make_node("Abs", [activations], [f"{name}_abs"]),
        helper.make_node("ReduceMax", [f"{name}_abs", "int8_last_axis"], [f"{name}_max"], keepdims=1),
        helper.make_node("Max", [f"{name}_max", "int8_smallest"], [f"{name}_range"]),
        helper.make_node("Div", ["int8_largest", f"{name}_range"], [f"{name}_factor"]),
        helper.make_node("Div", [f"{name}_range", "int8_largest"], [f"{name}_scale"]),
        helper.make_node("Mul", [activations, f"{name}_factor"], [f"{name}_scaled"]),
        helper.make_node("Round", [f"{name}_scaled"], [f"{name}_rounded"]),
        helper.make_node("Add", [f"{name}_rounded", "int8_offset"], [f"{name}_shifted"]),
        helper.make_node("Cast", [f"{name}_shifted"], [f"{name}_integers"], to=TensorProto.UINT8),
    ]


def _quantised_columns(weight: np.ndarray, name: str) -> list[TensorProto]:
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-10) / 127
    integers = np.clip(np.round(weight / scale), -127, 127).astype(np.int8)
    return [
        numpy_helper.from_array(integers, f"{name}_weight"),
        numpy_helper.from_array(scale.astype(np.float32), f"{name}_columns"),
    ]


def _product(rows: str, name: str, output: str) -> Sequence[NodeProto]:
    return [
        helper.make_node("MatMulInteger", [f"{rows}_integers", f"{name}_weight", "int8_zero_point"], [f"{name}_sums"]),
        helper.make_node("Cast", [f"{name}_sums"], [f"{name}_floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_floats", f"{name}_columns"], [f"{name}_partly"]),
        helper.make_node("Mul", [f"{name}_partly", f"{rows}_scale"], [output]),
    ]


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
