"""The recipe of export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from components.export.config import ExportConfig
from components.export.graph import MAX_GRAPH_BYTES, write_graph
from components.export.layouts import write_sentence_transformers, write_triton
from components.export.parity import TorchVectors, compare, parity_texts
from components.export.variants import parse_variants, write_variant
from components.shared import checkpoint, log
from components.shared.contract.needs import check_gpu_is_used
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.encoding.encoder import (
    TOKENIZER_NAME,
    Encoder,
    EncoderSettings,
    NotFiniteError,
    graph_digest,
    write_settings,
)
from components.shared.encoding.engines.drift import DevSet, Vectors, dev_set, encode, measure_cuts, measure_drift
from components.shared.encoding.engines.proof import PROOFS, Gates, broken_gate, prove_other_makers
from components.shared.encoding.engines.records import PRECISIONS
from components.shared.manifest import artifact_writer, followed, open_artifact, read_manifest
from components.shared.roles import hint


def export(config: ExportConfig, *, max_graph_bytes: int = MAX_GRAPH_BYTES) -> None:
    """Writes the encoder, loads it again as its readers will, and proves every graph of it before it becomes visible.

    Weights beyond `max_graph_bytes` go into a file beside their graph.

    Raises:
        ValueError: Where vectors differ by more than the config allows, or find less than it demands, or are no
            numbers; names the variant. Where a GPU was promised, which export does not use.
    """
    check_gpu_is_used("export", num_gpus=0, remedy="its forward passes are few: give it a profile row without a GPU")
    variants = parse_variants(config.variants)
    model = checkpoint.load_as(config)
    measures = len(variants) > 1 or bool(model.settings.matryoshka)
    dev = _dev_set(config) if config.dataset_uri and measures else None
    with artifact_writer("export", config) as artifact:
        settings = write_encoder(
            model, artifact.path, opset=config.opset, variants=variants, max_graph_bytes=max_graph_bytes
        )
        write_sentence_transformers(artifact.path, model)
        if config.triton == "yes":
            write_triton(artifact.path, settings)
        texts = parity_texts(model.settings.passage_tokens, config.seed, config.num_parity_texts)
        torch_vectors = TorchVectors.of(model, texts)
        exact = encode(Encoder(artifact.path, variant="fp32"), dev) if dev is not None else None
        reports = {
            variant: _proof(config, Encoder(artifact.path, variant=variant), torch_vectors, texts, dev, exact)
            for variant in variants
        }
        artifact.metrics.update(
            dimension=model.dimension,
            largest_difference=reports["fp32"]["largest_difference"],
            opset=config.opset,
            variants=reports,
            **_of_training(followed(config.checkpoint_uri)),
        )
        if config.prove_engines == "yes":
            artifact.metrics[PROOFS] = prove_other_makers(
                artifact.path, torch_vectors, texts, dev, exact, _gates(config), config.seed
            )
        if dev is not None and exact is not None and model.settings.matryoshka:
            artifact.metrics["matryoshka_ndcg_10"] = by_dimensions = measure_cuts(exact, dev, settings)
            log.event("nDCG@10 by dimensions", values=by_dimensions)


def _dev_set(config: ExportConfig) -> DevSet | None:
    return dev_set(
        Dataset(open_artifact(config.dataset_uri)),
        seed=config.seed,
        num_queries=config.drift_queries,
        num_passages=config.drift_passages,
    )


def _gates(config: ExportConfig) -> Gates:
    return Gates(**{gate.name: getattr(config, gate.name) for gate in fields(Gates)})


def _of_training(checkpoint_uri: str) -> dict[str, Any]:
    """What train says of the weights that it kept, handed on to those who see the encoder only; empty for others."""
    if not storage.exists(f"{checkpoint_uri.rstrip('/')}/{storage.MANIFEST_NAME}"):
        return {}
    metrics = read_manifest(checkpoint_uri).metrics
    handed_on = ("kept", "kept_reason", "trained_share", "training_precision")
    return {name: metrics[name] for name in handed_on if name in metrics}


def _proof(
    config: ExportConfig,
    encoder: Encoder,
    expected: TorchVectors,
    texts: Sequence[str],
    dev: DevSet | None,
    exact: tuple[Vectors, Vectors] | None,
) -> dict[str, Any]:
    """What was measured of a variant, once it holds the gates."""
    try:
        report = asdict(compare(expected, encoder, texts)) | {"provider": encoder.providers[0]}
        if dev is not None and exact is not None and encoder.variant != "fp32":
            report |= asdict(measure_drift(exact, encoder, dev, seed=config.seed))
    except NotFiniteError as error:
        raise ValueError(f"{config.checkpoint_uri}: {encoder.variant}: parity with torch: {error}") from error
    log.event("parity with torch", variant=encoder.variant, **report)
    check_gates(config, encoder.variant, report)
    return report


def check_gates(config: ExportConfig, variant: str, report: Mapping[str, Any]) -> None:
    """Holds what was measured of a variant against the config.

    Raises:
        ValueError: Where it breaks a gate. A measure that is not a number breaks it too: every comparison with nan
            is false.
    """
    is_exact = PRECISIONS[variant].is_exact
    if problem := broken_gate(report, _gates(config), is_exact=is_exact):
        remedy = (
            f"try another one ({hint('opset', 17)}), or report the model"
            if is_exact
            else "leave the variant out of --variants, or lower the gate knowingly"
        )
        raise ValueError(f"{config.checkpoint_uri}: {variant}: {problem}; {remedy}")


def write_encoder(
    model: checkpoint.DualEncoder,
    folder: Path,
    *,
    opset: int,
    variants: Sequence[str] = ("fp32",),
    max_graph_bytes: int = MAX_GRAPH_BYTES,
) -> EncoderSettings:
    """Writes graphs, tokenizer and settings into an existing folder; returns the settings."""
    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / TOKENIZER_NAME))
    settings = EncoderSettings(
        dimension=model.dimension,
        pooling=model.settings.pooling,
        normalise=model.settings.normalise,
        query_prefix=model.settings.query_prefix,
        passage_prefix=model.settings.passage_prefix,
        query_tokens=model.settings.query_tokens,
        passage_tokens=model.settings.passage_tokens,
        pad_token_id=int(model.tokenizer.pad_token_id or 0),
        query_prompt_tokens=model.prompt_tokens(model.settings.query_prefix),
        passage_prompt_tokens=model.prompt_tokens(model.settings.passage_prefix),
        dimensions=model.settings.dimensions,
        matryoshka=model.settings.matryoshka,
    )
    write_graph(model, folder, settings, opset=opset, max_graph_bytes=max_graph_bytes)
    smaller = [variant for variant in variants if variant != "fp32"]
    for variant in smaller:
        write_variant(folder, variant, max_graph_bytes=max_graph_bytes)
    graphs = {variant: graph_digest(folder, variant) for variant in smaller}
    settings = replace(settings, graphs=graphs)
    write_settings(folder, settings)
    return settings
