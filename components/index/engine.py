"""Which engine and precision encode the passages: what was asked for, else what is fast here and was proven.

The processor's flags say what is worth trying, a measured second on the corpus's own passages says what is fastest, and
a proof says that its vectors find what they should. What was chosen is kept beside the vectors, so that a job that was
killed goes on with the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from components.index.config import IndexConfig
from components.index.shards import CONTRACT_NAME
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder, num_cores
from components.shared.encoding.engines import processor
from components.shared.encoding.engines.drift import dev_set
from components.shared.encoding.engines.onnx_runtime import check_encodes_on_gpu
from components.shared.encoding.engines.proof import PASSED, PROOFS, Proof, open_maker, prove_against_reference
from components.shared.encoding.engines.records import ENGINES, PRECISIONS, REFERENCE, Maker, known_maker, other_makers
from components.shared.index.settings import read_settings
from components.shared.manifest import open_artifact, read_manifest

AUTO = "auto"
CHOICE_NAME = "engine.json"
# Smaller corpora are encoded in a minute, of which the measurement would take its part.
FEWEST_PASSAGES = 5_000
_SECONDS, _SAMPLE, _CHUNK = 1.0, 256, 32
# A rival must be this much faster than the reference: two that are alike would change places from run to run.
_WORTH = 1.1


def open_encoder(config: IndexConfig, dataset: Dataset, scratch: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder of the passages, and what the manifest says of the choice.

    Raises:
        ValueError: Where what was asked for cannot be had here, a promised GPU among it.
    """
    folder = open_artifact(config.encoder_uri)
    choosing = _Choosing(config, dataset, folder)
    kept = scratch / CHOICE_NAME
    chosen = _kept(kept) or choosing.choose()
    encoder = choosing.open(Maker(*chosen["maker"]))
    if not kept.exists():
        partial = kept.with_suffix(".partial")
        partial.write_bytes(orjson.dumps(chosen))
        partial.rename(kept)
    check_encodes_on_gpu(str(encoder.maker), encoder.providers)
    log.event("engine of the encoder", engine=str(encoder.maker), reason=chosen["reason"])
    # Under the name of what was computed in, which is not always what was asked for.
    proof = choosing.proof(encoder)
    if proof is not None and not proof[PASSED]:
        log.warning(
            "these vectors broke a gate; the index can be searched with the same engine and precision only",
            engine=str(encoder.maker),
            problem=proof["problem"],
        )
    return encoder, {
        "encoded_by": str(encoder.maker),
        "engine_reason": chosen["reason"],
        "engine_passages_per_second": chosen["speeds"],
        "processor": processor.described(),
        PROOFS: {} if proof is None else {str(encoder.maker): proof},
    }


def _kept(path: Path) -> dict[str, Any] | None:
    """The choice of an attempt that was killed; its vectors are thrown away where this machine cannot go on with it."""
    if not path.is_file():
        return None
    chosen: dict[str, Any] = orjson.loads(path.read_bytes())
    maker = Maker(*chosen["maker"])
    if maker.engine in ENGINES and ENGINES[maker.engine].is_installed():
        return chosen
    log.warning(
        "the vectors of an earlier attempt were made by an engine that is not here; encoding again", engine=str(maker)
    )
    for shard in path.parent.glob("vectors/*.npy"):
        shard.unlink()
    path.unlink()
    return None


class _Choosing:
    """One choice: the job's settings, and the encoders that were opened for it."""

    def __init__(self, config: IndexConfig, dataset: Dataset, folder: Path) -> None:
        self._config, self._dataset, self._folder = config, dataset, folder
        self._num_workers = config.num_threads or num_cores()
        self._opened: dict[Maker, Encoder] = {}
        self._proofs: dict[Maker, Proof | None] = {}

    def open(self, maker: Maker) -> Encoder:
        """The encoder, with a thread for each batch."""
        if maker not in self._opened:
            self._opened[maker] = open_maker(self._folder, maker, num_threads=1, num_streams=self._num_workers)
        return self._opened[maker]

    def choose(self) -> dict[str, Any]:
        """The maker, why it is the one, and the passages a second of those that were measured."""
        config = self._config
        if config.engine != AUTO:
            variant = "fp32" if config.variant == AUTO and config.engine != REFERENCE.name else config.variant
            return self._said(self._usual(config.engine, variant), "asked for")
        if given := self._of_given_vectors():
            return self._said(given, "that of the vectors that are given")
        if config.variant not in (AUTO, *REFERENCE.precisions):
            able = next(engine for engine in ENGINES.values() if config.variant in engine.precisions)
            return self._said(self._usual(able.name, config.variant), f"the one engine with {config.variant}")
        reference = self._usual(REFERENCE.name, config.variant)
        rivals = self._rivals(reference)
        if not rivals:
            return self._said(reference, f"no other engine is installed for it, or fast on {processor.described()}")
        if self._dataset.num_passages < FEWEST_PASSAGES:
            return self._said(reference, f"fewer than {FEWEST_PASSAGES} passages are not worth a measurement")
        if config.product == "vectors":
            # Several jobs must choose alike, so that the flags decide and no measurement does.
            surely = [maker for maker in rivals if PRECISIONS[maker.precision].is_surely_fast() and self._holds(maker)]
            return self._said((surely or [reference])[0], f"by the processor's flags: {processor.described()}")
        return self._fastest(reference, rivals)

    def _usual(self, engine: str, variant: Any) -> Maker:  # noqa: ANN401 one of the config's choices
        """The maker that an engine's encoder turns out to be, such as fp16 for auto on a GPU."""
        encoder = Encoder(self._folder, num_threads=1, variant=variant, engine=engine, num_streams=self._num_workers)
        self._opened[encoder.maker] = encoder
        return encoder.maker

    def _of_given_vectors(self) -> Maker | None:
        """Who made the vectors of other jobs, or of the previous index, that this job goes on from."""
        if self._config.vectors_uri:
            uri = self._config.vectors_uri.split(",")[0]
            said = orjson.loads((open_artifact(uri) / CONTRACT_NAME).read_bytes())
            return known_maker(said.get("engine", REFERENCE.name), said["variant"], uri)
        if self._config.previous_uri and self._config.variant == AUTO:
            settings, _ = read_settings(open_artifact(self._config.previous_uri))
            return known_maker(settings.engine, settings.variant, self._config.previous_uri)
        return None

    def _rivals(self, reference: Maker) -> list[Maker]:
        """Other makers of the precision that was asked for; with auto of every one that loses nothing that matters."""
        if self.open(reference).providers[0] != "CPUExecutionProvider":
            return []
        wanted = ("fp32", "bf16") if self._config.variant == AUTO else (self._config.variant,)
        graphs = frozenset({"fp32", *self.open(reference).settings.graphs})
        return [maker for maker in other_makers(graphs) if maker.precision in wanted]

    def _fastest(self, reference: Maker, rivals: Sequence[Maker]) -> dict[str, Any]:
        makers = [reference, *rivals]
        speeds = dict(zip(makers, self._measured([self.open(maker) for maker in makers]), strict=True))
        speeds_said = {str(maker): speed for maker, speed in speeds.items()}
        for maker in sorted(rivals, key=lambda rival: -speeds[rival]):
            if speeds[maker] >= _WORTH * speeds[reference] and self._holds(maker):
                return self._said(maker, "the fastest of a measured second, and proven", speeds_said)
        return self._said(reference, f"no proven engine was {_WORTH} times as fast in a measured second", speeds_said)

    def _measured(self, encoders: Sequence[Encoder]) -> list[float]:
        random = np.random.default_rng(self._config.seed)
        rows = random.choice(self._dataset.num_passages, size=min(_SAMPLE, self._dataset.num_passages), replace=False)
        token_ids = encoders[0].tokenize_passages([self._dataset.passage_at(int(row)).full_text for row in rows])

        def encode(encoder: Encoder, texts: list[list[int]]) -> None:
            encoder.encode_tokens(texts, batch_tokens=self._config.batch_tokens, num_workers=self._num_workers)

        return passages_per_second([_bound(encode, encoder) for encoder in encoders], token_ids, seconds=_SECONDS)

    def _holds(self, maker: Maker) -> bool:
        proof = self.proof(self.open(maker))
        return proof is None or bool(proof[PASSED])

    def proof(self, encoder: Encoder) -> Proof | None:
        """That of export, else one made now; the reference engine needs none."""
        maker = encoder.maker
        if maker.is_reference:
            return None
        if maker not in self._proofs:
            recorded: dict[str, Proof] = read_manifest(self._config.encoder_uri).metrics.get(PROOFS, {})
            self._proofs[maker] = recorded.get(str(maker)) or self._prove(encoder)
        return self._proofs[maker]

    def _prove(self, encoder: Encoder) -> Proof:
        dev = None if encoder.maker.is_exact else dev_set(self._dataset, seed=self._config.seed)
        return prove_against_reference(self._folder, encoder, dev, seed=self._config.seed)

    def _said(self, maker: Maker, reason: str, speeds: dict[str, float] | None = None) -> dict[str, Any]:
        return {"maker": [maker.engine, maker.precision], "reason": reason, "speeds": speeds or {}}


def _bound(encode: Callable[[Encoder, list[list[int]]], None], encoder: Encoder) -> Callable[[list[list[int]]], None]:
    return lambda texts: encode(encoder, texts)


def passages_per_second(
    ways: Sequence[Callable[[list[list[int]]], None]], token_ids: list[list[int]], *, seconds: float
) -> list[float]:
    """The speed of each way: the same chunks in turn, so that a slower moment of the machine meets all alike.

    Each is warmed up first, and the whole measurement takes about `seconds` for all ways together.
    """
    chunks = [token_ids[first : first + _CHUNK] for first in range(0, len(token_ids), _CHUNK)]
    for way in ways:
        way(chunks[0])
    spent, num_texts = [0.0] * len(ways), 0
    for chunk in _repeated(chunks):
        for number, way in enumerate(ways):
            start = time.perf_counter()
            way(chunk)
            spent[number] += time.perf_counter() - start
        num_texts += len(chunk)
        if sum(spent) >= seconds:
            break
    return [round(num_texts / max(of_way, 1e-9), 1) for of_way in spent]


def _repeated(chunks: Sequence[list[list[int]]]) -> Iterable[list[list[int]]]:
    while True:
        yield from chunks
