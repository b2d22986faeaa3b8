"""The recipe of export."""

from __future__ import annotations

from pathlib import Path

from components.export.config import ExportConfig
from components.export.graph import write_graph
from components.export.parity import largest_difference, parity_texts
from components.shared import checkpoint, log, storage
from components.shared.encoder import TOKENIZER_NAME, Encoder, EncoderSettings, write_settings
from components.shared.manifest import artifact_writer, open_artifact


def export(config: ExportConfig) -> None:
    """Writes the encoder, loads it again as its readers will, and proves it equal to torch before it becomes visible.

    Raises:
        ValueError: Where the vectors differ by more than the config allows.
    """
    model = _load(config)
    with artifact_writer("export", config) as artifact:
        write_encoder(model, artifact.path, opset=config.opset)
        difference = largest_difference(model, Encoder(artifact.path), parity_texts(model.settings.passage_tokens, config.seed))
        log.event("parity with torch", largest_difference=difference, allowed=config.max_difference)
        # A vector that is not a number fails too: every comparison with nan is false.
        if not difference <= config.max_difference:
            raise ValueError(
                f"{config.checkpoint_uri}: ONNX vectors differ from torch's by {difference:.2e}, allowed are {config.max_difference:.0e}; "
                "try another --opset, or report the model"
            )
        artifact.metrics.update(dimension=model.dimension, largest_difference=difference, opset=config.opset)


def write_encoder(model: checkpoint.DualEncoder, folder: Path, *, opset: int) -> None:
    """Writes graph, tokenizer and settings into an existing folder."""
    write_graph(model, folder, opset=opset)
    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / TOKENIZER_NAME))
    settings = model.settings
    write_settings(
        folder,
        EncoderSettings(
            dimension=model.dimension,
            pooling=settings.pooling,
            normalise=settings.normalise,
            query_prefix=settings.query_prefix,
            passage_prefix=settings.passage_prefix,
            query_tokens=settings.query_tokens,
            passage_tokens=settings.passage_tokens,
            pad_token_id=int(model.tokenizer.pad_token_id or 0),
        ),
    )


def _load(config: ExportConfig) -> checkpoint.DualEncoder:
    uri = config.checkpoint_uri
    if storage.exists(f"{uri.rstrip('/')}/{storage.MANIFEST_NAME}"):
        uri = str(open_artifact(uri))
    elif storage.is_remote(uri):
        uri = str(storage.fetch(uri))
    return checkpoint.load(
        uri,
        pooling=config.pooling,
        normalise=config.normalise,
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
        query_tokens=config.query_tokens,
        passage_tokens=config.passage_tokens,
    )
