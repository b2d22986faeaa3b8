"""DualEncoder -> ONNX graph, with dynamic batch and length."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch

from components.shared.checkpoint import DualEncoder
from components.shared.encoder import CONTRACT_KEY, GRAPH_NAME, INPUT_NAMES, OUTPUT_NAME, EncoderSettings


def write_graph(model: DualEncoder, folder: Path, settings: EncoderSettings, *, opset: int) -> None:
    """Writes model.onnx, weights and the settings inside, into an existing folder.

    Not passed through onnxruntime.transformers' optimizer: of this graph it fuses what ONNX Runtime fuses itself when
    it loads it.
    """
    model.eval()
    # Two texts of different lengths, so that no dimension is one and the tracer cannot take it for a constant.
    ids, mask = model.pad(model.tokenize_passages(["short", "a text that is a little longer than the other"]))
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=model.settings.passage_tokens)
    shape = {0: batch, 1: length}
    # It reports on itself, and on packages that no encoder needs; what matters here is proven by the parity check.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (ids, mask),
            dynamo=True,
            opset_version=opset,
            input_names=list(INPUT_NAMES),
            output_names=[OUTPUT_NAME],
            dynamic_shapes=(shape, shape),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[CONTRACT_KEY] = settings.contract()
    program.save(str(folder / GRAPH_NAME), external_data=False)
