"""OpenVINO: the engine that computes in bf16 on processors with AMX or AVX-512 BF16, from the same ONNX graph.

No cache folder: compiling takes a second, and a file that another version left would be one more thing to break.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from components.shared import log
from components.shared.encoding.engines import processor
from components.shared.encoding.engines.graph import CONTRACT_KEY, INPUT_NAMES, OUTPUT_NAME, num_cores
from components.shared.roles import hint

# What its CPU plugin is told for each precision; said in any case, because where there is bf16 it takes that by itself.
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_NAMES = {"f32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16"}
_TELEMETRY = "openvino_telemetry"
# Compiled kernels that are kept for shapes seen before: without a limit 500 shapes grew memory by 474 MiB.
_CACHED_KERNELS = 64
_importing = threading.Lock()


class OpenVinoSession:
    """A compiled graph with as many requests as it has streams; more callers than streams wait for one."""

    def __init__(self, graph: Path, precision: str, num_threads: int, num_streams: int) -> None:
        """Compiles the graph for this processor.

        Raises:
            ValueError: Where OpenVINO cannot be loaded, or cannot read the graph.
        """
        openvino = _imported()
        try:
            model = openvino.Core().read_model(str(graph))
            self.contract = _contract(model)
            # Only the vectors: the states of all tokens would be copied out of every batch.
            model = openvino.Model([model.output(OUTPUT_NAME)], model.get_parameters())
            compiled = openvino.Core().compile_model(model, "CPU", _properties(precision, num_threads, num_streams))
        except RuntimeError as error:
            problem = " ".join(str(error).split())[-300:]
            raise ValueError(
                f"{graph}: OpenVINO cannot read it ({problem}); export the encoder again, or choose another engine "
                f"({hint('engine', 'onnxruntime')})"
            ) from error
        self.precision = _computed_in(compiled, precision)
        self._process = os.getpid()
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(num_streams):
            self._requests.put(compiled.create_infer_request())

    @property
    def providers(self) -> list[str]:
        """The one device that is asked for."""
        return ["OpenVINO CPU"]

    def run(
        self, token_ids: Int64[np.ndarray, "text token"], mask: Int64[np.ndarray, "text token"]
    ) -> Float32[np.ndarray, "text dimension"]:
        """Vectors of a padded batch."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "this encoder was opened before the process forked, and OpenVINO's threads stayed with the parent; "
                "open it in the child, or start the child anew (spawn)"
            )
        request = self._requests.get()
        try:
            request.infer(dict(zip(INPUT_NAMES, (token_ids, mask), strict=True)), share_inputs=True)
            # A copy: the next batch is written into the same memory.
            vectors: Float32[np.ndarray, "text dimension"] = np.array(request.get_tensor(OUTPUT_NAME).data)
        finally:
            self._requests.put(request)
        return vectors


def version() -> str:
    """Of the installed package."""
    return str(_imported().get_version())


def _properties(precision: str, num_threads: int, num_streams: int) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": num_streams,
        "INFERENCE_NUM_THREADS": (num_threads or num_cores()) * num_streams,
        # Two processes that pin their threads pin them to the same cores.
        "ENABLE_CPU_PINNING": False,
        "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_KERNELS,
    }


def _computed_in(compiled: Any, wanted: str) -> str:  # noqa: ANN401 a compiled model of a package without types
    """The precision that was compiled; a warning where it is another than was asked for."""
    if wanted == "int8":
        return wanted
    computed = _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]
    if computed != wanted:
        log.warning(
            "this processor lacks the precision: vectors are computed, and recorded, in another one; bf16 that is "
            "emulated, as torch does, takes 16 times as long as fp32 on AVX2",
            asked=wanted,
            computed=computed,
            processor=processor.described(),
        )
    return computed


def _contract(model: Any) -> str | None:  # noqa: ANN401 a model of a package without types
    path = ["framework", CONTRACT_KEY]
    return model.get_rt_info(path).astype(str) if model.has_rt_info(path) else None


def _imported() -> Any:  # noqa: ANN401 a package without types
    """The package, without the telemetry that its import would send to Intel and leave in the home folder."""
    with _importing:
        hides = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
        if hides:
            # Its import falls back to a stub of its own where this one fails.
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            import openvino
        except (ImportError, OSError) as error:
            raise ValueError(
                f"engine openvino: the package is installed and cannot be loaded ({error}); pip install "
                f"--force-reinstall openvino, or choose another engine ({hint('engine', 'onnxruntime')})"
            ) from error
        finally:
            if hides:
                sys.modules.pop(_TELEMETRY, None)
        return openvino
