"""DualEncoder -> ONNX graph, with dynamic batch and length."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx_ir
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from components.shared.checkpoint import DualEncoder
from components.shared.encoding.encoder import (
    CONTRACT_KEY,
    GRAPH_NAME,
    INPUT_NAMES,
    OUTPUT_NAME,
    WEIGHTS_SUFFIX,
    EncoderSettings,
)

# The second output: the states before pooling, for programs that pool themselves. Source: the name in Hugging Face's
# own ONNX exports.
STATES_NAME = "last_hidden_state"
# A protocol buffer holds less than 2 GiB; more weights than this go into a file of their own.
MAX_GRAPH_BYTES = 1_900_000_000
# Smaller tensors stay in the graph, where shape inference can read them. Source: the default of onnx.
SMALLEST_OUTSIDE_BYTES = 1024


class _Graph(nn.Module):
    """The dual encoder with both outputs."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Int64[Tensor, "text token"], attention_mask: Int64[Tensor, "text token"]
    ) -> tuple[Float[Tensor, "text dimension"], Float[Tensor, "text token hidden"]]:
        states = self.model.states(input_ids, attention_mask)
        return self.model.vectors(states, input_ids, attention_mask), states


def write_graph(
    model: DualEncoder,
    folder: Path,
    settings: EncoderSettings,
    *,
    opset: int,
    max_graph_bytes: int = MAX_GRAPH_BYTES,
) -> None:
    """Writes model.onnx, the settings inside, into an existing folder; weights beyond `max_graph_bytes` beside it.

    Not passed through onnxruntime.transformers' optimizer: of this graph it fuses what ONNX Runtime fuses itself when
    it loads it.
    """
    model.eval()
    # Two texts of different lengths, so that no dimension is one and the tracer cannot take it for a constant.
    ids, mask = model.pad(model.tokenize_passages(["short", "a text that is a little longer than the other"]))
    longest = max(model.settings.passage_tokens, model.settings.query_tokens)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=longest)
    shape = {0: batch, 1: length}
    # It reports on itself, and on packages that no encoder needs; what matters here is proven by the parity check.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Graph(model),
            (ids, mask),
            dynamo=True,
            opset_version=opset,
            input_names=list(INPUT_NAMES),
            output_names=[OUTPUT_NAME, STATES_NAME],
            dynamic_shapes=(shape, shape),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[CONTRACT_KEY] = settings.contract()
    num_bytes = sum(tensor.const_value.nbytes for tensor in program.model.graph.initializers.values())
    onnx_ir.save(
        program.model,
        folder / GRAPH_NAME,
        external_data=f"{GRAPH_NAME}{WEIGHTS_SUFFIX}" if num_bytes > max_graph_bytes else None,
        size_threshold_bytes=SMALLEST_OUTSIDE_BYTES,
    )
