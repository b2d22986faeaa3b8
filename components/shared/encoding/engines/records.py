"""What each engine and each precision is, as records: what they need and can do is a field, never a name elsewhere.

An engine is a program that computes an encoder's graph. A maker is an engine with the precision it computes in: what
decides a vector beside the encoder's own files.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from components.shared.encoding.engines.processor import BF16_FLAGS, flags
from components.shared.roles import hint


@runtime_checkable
class Session(Protocol):
    """A graph that an engine has loaded, for several threads at once."""

    @property
    def precision(self) -> str:
        """What it really computes in, which can be another precision than was asked for."""
        ...

    @property
    def providers(self) -> list[str]:
        """What it computes with, the first choice first."""
        ...

    @property
    def contract(self) -> str | None:
        """The settings that the graph was exported with; None where it does not say."""
        ...

    def run(
        self, token_ids: Int64[np.ndarray, "text token"], mask: Int64[np.ndarray, "text token"]
    ) -> Float32[np.ndarray, "text dimension"]:
        """Vectors of a padded batch."""
        ...


# Graph, precision, threads of one batch (0: all cores), batches at once -> the loaded graph.
Open = Callable[[Path, str, int, int], Session]


@dataclass(frozen=True)
class Precision:
    """A precision that vectors can be made in.

    Attributes:
        name: As manifests and settings say it.
        graph: The graph of the encoder's folder that is loaded for it.
        needs: Flags of which a processor has one where it computes in the precision itself; empty: all do.
        surely: Those of them with which it is faster than fp32 for certain; with the others only a measurement tells.
        is_exact: Whether vectors are those of torch to 1e-5, so that they mix with all others that are.
        queries: Precision of the queries that search such an index.
    """

    name: str
    graph: str
    needs: frozenset[str]
    surely: frozenset[str]
    is_exact: bool
    queries: str

    def is_fast(self) -> bool:
        """Whether the processor has what it needs; how fast that is, a measurement tells."""
        return not self.needs or bool(self.needs & flags())

    def is_surely_fast(self) -> bool:
        """Whether it may be taken where nothing can be measured."""
        return bool(self.surely & flags())


PRECISIONS = {
    record.name: record
    for record in (
        Precision("fp32", "fp32", frozenset(), frozenset(), True, "fp32"),
        # No graph of its own: an engine computes the fp32 graph in it. AMX: 437 passages/s against 125 of ONNX Runtime
        # in fp32, on two cores; AVX-512 BF16 alone: .79 of ONNX Runtime's fp32 on one processor (RESULTS.md).
        Precision("bf16", "fp32", BF16_FLAGS, frozenset({"amx_bf16"}), False, "bf16"),
        Precision("fp16", "fp16", frozenset({"cuda"}), frozenset(), False, "fp32"),
        # Exact queries over int8 passages find more than int8 ones: top-10 overlap 0.90 against 0.86.
        Precision("int8", "int8", frozenset(), frozenset(), False, "fp32"),
    )
}


@dataclass(frozen=True)
class Engine:
    """A program that computes graphs.

    Attributes:
        name: As settings and manifests say it.
        package: The module that must be importable.
        extra: The extra of this project that brings it.
        precisions: What it can compute in.
        is_reference: Whether export holds every graph's vectors from it against torch, whatever else is installed.
        open: Loads a graph.
    """

    name: str
    package: str
    extra: str
    precisions: tuple[str, ...]
    is_reference: bool
    open: Open

    def is_installed(self) -> bool:
        """Whether its package is there; it is not imported for that."""
        return importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Refuses an engine that is not here.

        Raises:
            ValueError: Naming the extra that brings it.
        """
        if not self.is_installed():
            raise ValueError(
                f"engine {self.name}: the package {self.package} is not installed; pip install "
                f"'retriever-pipeline[{self.extra}]', or choose another engine ({hint('engine', 'onnxruntime')})"
            )


def _onnx_runtime(graph: Path, precision: str, num_threads: int, _: int) -> Session:
    from components.shared.encoding.engines.onnx_runtime import OnnxRuntimeSession

    return OnnxRuntimeSession(graph, precision, num_threads)


def _openvino(graph: Path, precision: str, num_threads: int, num_streams: int) -> Session:
    # Imported here: an extra that most machines lack.
    from components.shared.encoding.engines.open_vino import OpenVinoSession

    return OpenVinoSession(graph, precision, num_threads, num_streams)


ENGINES = {
    record.name: record
    for record in (
        Engine("onnxruntime", "onnxruntime", "search", ("fp32", "fp16", "int8"), True, _onnx_runtime),
        Engine("openvino", "openvino", "openvino", ("fp32", "bf16", "int8"), False, _openvino),
    )
}
REFERENCE = next(engine for engine in ENGINES.values() if engine.is_reference)


@dataclass(frozen=True)
class Maker:
    """Who makes vectors of an encoder's graph: an engine and the precision it computes in."""

    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def is_reference(self) -> bool:
        """Whether export's own gates speak of its vectors."""
        return ENGINES[self.engine].is_reference

    @property
    def is_exact(self) -> bool:
        """Whether its vectors are torch's to 1e-5."""
        return PRECISIONS[self.precision].is_exact


def known_maker(engine: str, precision: str, where: str) -> Maker:
    """The maker that an artifact names.

    Raises:
        ValueError: Where this version knows no such engine or precision.
    """
    if engine not in ENGINES or precision not in PRECISIONS:
        raise ValueError(
            f"{where}: its vectors were made by {engine} {precision}, which this version does not know (engines "
            f"{', '.join(ENGINES)}; precisions {', '.join(PRECISIONS)}); build the index again"
        )
    return Maker(engine, precision)


def other_makers(graphs: frozenset[str]) -> list[Maker]:
    """Makers beside the reference engine that are installed and fast on this processor, of these graphs."""
    return [
        Maker(engine.name, name)
        for engine in ENGINES.values()
        if not engine.is_reference and engine.is_installed()
        for name in engine.precisions
        if PRECISIONS[name].graph in graphs and PRECISIONS[name].is_fast()
    ]
