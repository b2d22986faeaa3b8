"""ONNX Runtime: the engine that every image has, on CPUs and, where onnxruntime-gpu finds one, on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from jaxtyping import Float32, Int64
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from components.shared.contract.needs import check_gpu_is_used
from components.shared.encoding.engines.graph import CONTRACT_KEY, INPUT_NAMES, OUTPUT_NAME, num_cores

_NOT_A_GRAPH = (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf, ort_errors.InvalidArgument)
_GPU = "CUDAExecutionProvider"


class OnnxRuntimeSession:
    """A session, which any number of threads may run at once, each batch on the thread that brings it."""

    def __init__(self, graph: Path, precision: str, num_threads: int) -> None:
        """Loads the graph.

        Raises:
            ValueError: Where ONNX Runtime cannot read it.
        """
        self.precision = precision
        try:
            self._session = ort.InferenceSession(str(graph), _session_options(num_threads), providers=_providers())
        except _NOT_A_GRAPH as error:
            raise ValueError(f"{graph}: ONNX Runtime cannot read it ({error}); export the encoder again") from error

    @property
    def providers(self) -> list[str]:
        """Execution providers, the first choice first."""
        return list(self._session.get_providers())

    @property
    def contract(self) -> str | None:
        """What export wrote into the graph's metadata."""
        value = self._session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY)
        return None if value is None else str(value)

    def run(
        self, token_ids: Int64[np.ndarray, "text token"], mask: Int64[np.ndarray, "text token"]
    ) -> Float32[np.ndarray, "text dimension"]:
        """Vectors of a padded batch."""
        (vectors,) = self._session.run([OUTPUT_NAME], dict(zip(INPUT_NAMES, (token_ids, mask), strict=True)))
        assert isinstance(vectors, np.ndarray)
        return vectors


def has_gpu() -> bool:
    """Whether this ONNX Runtime was built for a GPU; whether there is one only a session tells (`is_on_gpu`)."""
    return _GPU in _providers()


def is_on_gpu(providers: Sequence[str]) -> bool:
    """Whether a session with these providers computes on a GPU; one that could not be set up there has none."""
    return providers[0] == _GPU


def check_encodes_on_gpu(maker: str, providers: Sequence[str]) -> None:
    """For a task whose GPU is there to encode; `maker` is the engine and its precision.

    Raises:
        ValueError: Where a GPU was promised to this task and a session with these providers computes on the CPU.
    """
    check_gpu_is_used(
        maker,
        num_gpus=int(is_on_gpu(providers)),
        remedy="install onnxruntime-gpu in the place of onnxruntime, with the CUDA and cuDNN that it names, or take a "
        "profile that gives this task no GPU",
    )


def _session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Set, because ONNX Runtime counts the host's cores and not the container's.
    options.intra_op_num_threads = num_threads or num_cores()
    options.inter_op_num_threads = 1
    # The arena keeps a block for every shape it has seen: over 160 shapes that grew by 147 MiB, without it by 14 MiB at
    # 7 % more time.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return options


def _providers() -> list[str]:
    wanted = (_GPU, "CPUExecutionProvider")
    providers = [provider for provider in wanted if provider in ort.get_available_providers()]
    if _GPU in providers:
        _load_cuda()
    return providers


@functools.cache
def _load_cuda() -> None:
    """Loads CUDA and cuDNN from their Python packages, where they are not among the system's libraries."""
    ort.preload_dlls()
