"""What a test on a GPU needs, asked of each package itself; what is lacking is the reason that the test is skipped for.

Tests that take a `device` also run on the CPU, in `make test`: all but the device is then the same code.
"""

import pytest

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


def torch_gpus(least: int = 1) -> int:
    """Number of GPUs that torch computes on."""
    torch = pytest.importorskip("torch", reason="torch is not installed here")
    if (count := torch.cuda.device_count()) < least:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
        pytest.skip(f"torch {torch.__version__} ({built}) sees {count} GPUs of {least}")
    return int(count)


def onnxruntime_on(device: str) -> None:
    """ONNX Runtime's build for a device; whether the GPU build can use the GPU is for the test to find out."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed here")
    is_for_gpus = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not is_for_gpus:
        pytest.skip(f"onnxruntime {ort.__version__} was built for CPUs; install onnxruntime-gpu in its place")
    if device == "cpu" and is_for_gpus:
        pytest.skip(f"onnxruntime {ort.__version__} was built for GPUs, and computes there")


def faiss_gpu() -> None:
    """FAISS's GPU build and a GPU that it sees."""
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed here")
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip(f"FAISS {faiss.__version__} was built for CPUs; install faiss-gpu in the place of faiss-cpu")
    if not faiss.get_num_gpus():
        pytest.skip(f"FAISS {faiss.__version__} sees no GPU")


def vllm_gpu() -> None:
    """vLLM's CUDA build and a GPU that it sees."""
    pytest.importorskip("vllm", reason="vLLM is not installed here; pip install vllm, in an environment of its own")
    from vllm.platforms import current_platform

    if not current_platform.is_cuda():
        pytest.skip(f"vLLM computes on {current_platform.device_type or 'nothing'} here, and not on a CUDA GPU")
