"""An encoder and an index opened together: queries are encoded by what made the passages, or by what is proven alike.

Vectors of two engines or precisions mix only where a gate of overlap was held and recorded; else the pair is refused by
name.
"""

from __future__ import annotations

from pathlib import Path

from components.shared import log
from components.shared.durable import storage
from components.shared.encoding.encoder import Encoder, Variant, read_encoder_settings
from components.shared.encoding.engines.proof import PASSED, PROBLEM, PROOFS, Proof, prove_against_reference
from components.shared.encoding.engines.records import ENGINES, PRECISIONS, REFERENCE, Engine, Maker, known_maker
from components.shared.index.passage_index import PassageIndex
from components.shared.index.reading import open_index
from components.shared.index.settings import read_settings
from components.shared.manifest import open_artifact, read_manifest
from components.shared.roles import hint

AUTO = "auto"


def open_pair(
    encoder_uri: str,
    index_uri: str,
    *,
    engine: str = AUTO,
    num_threads: int = 0,
    num_streams: int = 1,
    wait_seconds: float | None = None,
) -> tuple[Encoder, PassageIndex]:
    """The encoder for an index's queries, and the index.

    Args:
        encoder_uri: What export wrote.
        index_uri: What index wrote with it.
        engine: Program that computes the queries; auto takes the index's where it is here, else the reference.
        num_threads: Of one batch, as the encoder's.
        num_streams: Batches at once, as the encoder's.
        wait_seconds: How long a server that holds the index is waited for: see `open_index`.

    Raises:
        ValueError: Where another encoder made the index; where the engine is not installed; where its vectors are
            another maker's than the index's and no gate of overlap was held.
    """
    folder, index_folder = open_artifact(encoder_uri), open_artifact(index_uri)
    settings, _ = read_settings(index_folder)
    made_by = known_maker(settings.engine, settings.variant, index_uri)
    chosen = _engine(engine, made_by)
    encoder = Encoder(
        folder,
        num_threads=num_threads,
        variant=_precision(chosen, made_by, frozenset({"fp32", *read_encoder_settings(folder).graphs})),
        engine=chosen.name,
        num_streams=num_streams,
    )
    index = open_index(index_folder, encoder_digest=encoder.digest, wait_seconds=wait_seconds)
    _check_makers(made_by, encoder, folder, encoder_uri, index_uri)
    return encoder, index


def _engine(wanted: str, made_by: Maker) -> Engine:
    if wanted != AUTO:
        return ENGINES[wanted]
    engine = ENGINES[made_by.engine]
    is_here = engine.is_installed() and PRECISIONS[PRECISIONS[made_by.precision].queries].is_fast()
    return engine if is_here else REFERENCE


def _precision(engine: Engine, made_by: Maker, graphs: frozenset[str]) -> Variant:
    """That of the index's queries where the engine computes in it; the reference's own choice for its own vectors."""
    if engine.is_reference:
        return "auto" if made_by.is_reference else "fp32"
    wanted = PRECISIONS[PRECISIONS[made_by.precision].queries]
    if wanted.name not in engine.precisions or wanted.graph not in graphs or not wanted.is_fast():
        return "fp32"
    precision: Variant = wanted.name  # type: ignore[assignment]
    return precision


def _check_makers(made_by: Maker, encoder: Encoder, folder: Path, encoder_uri: str, index_uri: str) -> None:
    """Refuses a pair whose vectors were not proven to mix.

    All that the reference engine makes was held to torch when it was exported. Of two that are not exact, nobody has
    measured the mixture.
    """
    asking = encoder.maker
    if made_by == asking or (made_by.is_reference and asking.is_reference):
        return
    # A precision that the processor lacks is recorded as what was computed, so an exact one is exact.
    if not (made_by.is_exact or asking.is_exact):
        _refuse(made_by, asking, index_uri, "neither is exact")
    recorded = _recorded(index_uri) | _recorded(encoder_uri)
    for maker in (made_by, asking):
        if maker.is_reference:
            continue
        proof = recorded.get(str(maker))
        if proof is None and maker == asking and maker.is_exact:
            # Takes a second; what is not exact needs judged queries, which only export and index have.
            proof = prove_against_reference(folder, encoder, None, seed=0, num_texts=24)
        if proof is None:
            _refuse(made_by, asking, index_uri, f"no gate of overlap was recorded of {maker}")
        elif not proof[PASSED]:
            _refuse(made_by, asking, index_uri, f"{maker} broke its gate: {proof[PROBLEM]}")
    log.event(
        "queries are encoded by another maker than the index's, whose gate held",
        index=str(made_by),
        queries=str(asking),
    )


def _recorded(uri: str) -> dict[str, Proof]:
    """Proofs that an artifact's manifest holds; none of an artifact of an earlier version."""
    if not storage.exists(f"{uri.rstrip('/')}/{storage.MANIFEST_NAME}"):
        return {}
    proofs: dict[str, Proof] = read_manifest(uri).metrics.get(PROOFS, {})
    return proofs


def _refuse(made_by: Maker, asking: Maker, index_uri: str, reason: str) -> None:
    raise ValueError(
        f"{index_uri}: its vectors were made by {made_by}, queries would be encoded by {asking}, and {reason}; their "
        f"vectors do not mix: encode queries with the engine of the index ({hint('engine', made_by.engine)}), or build "
        f"the index again with {asking.engine}"
    )
