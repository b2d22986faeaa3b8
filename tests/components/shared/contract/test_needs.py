"""A pod that lacks what it asked for says so at once."""

import shutil
import tempfile
from pathlib import Path

import pytest

from components.shared.contract.needs import Needs, check_gpu_is_used, check_needs, count_gpus, promised


def test_nothing_promised_is_nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRIEVER_NEEDS", raising=False)
    assert promised() == Needs()
    check_needs(promised())


def test_what_the_runner_writes_the_job_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(num_gpus=2, disk_bytes=1 << 30)
    assert needs.as_variable() == '{"num_gpus":2,"disk_bytes":1073741824}'
    monkeypatch.setenv("RETRIEVER_NEEDS", needs.as_variable())
    assert promised() == needs


def test_everything_that_is_missing_is_named_at_once_with_its_remedy() -> None:
    with pytest.raises(ValueError, match=r"asked for 1000 GPUs and sees \d+.*LD_LIBRARY_PATH") as caught:
        check_needs(Needs(num_gpus=1000, shared_memory_bytes=1 << 60, disk_bytes=1 << 60))
    assert "mount an emptyDir of medium Memory there" in str(caught.value)
    assert f"{tempfile.gettempdir()} has" in str(caught.value)


def test_what_is_there_is_enough() -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    check_needs(Needs(disk_bytes=free // 2, shared_memory_bytes=1))


def test_without_a_driver_there_are_no_gpus_and_a_reason() -> None:
    count, problem = count_gpus()
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    assert count == 0
    assert "libcuda.so.1" in problem or "error" in problem


def test_who_computes_on_the_cpu_where_a_gpu_was_promised_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRIEVER_NEEDS", raising=False)
    check_gpu_is_used("torch", num_gpus=0, remedy="none")
    monkeypatch.setenv("RETRIEVER_NEEDS", Needs(num_gpus=2).as_variable())
    check_gpu_is_used("torch", num_gpus=1, remedy="none")
    with pytest.raises(ValueError, match="asked for 2 GPUs, and torch would compute on the CPU; build it anew"):
        check_gpu_is_used("torch", num_gpus=0, remedy="build it anew")


@pytest.mark.gpu
def test_a_gpu_that_is_there_is_counted() -> None:
    if not Path("/dev/nvidia0").exists():
        pytest.skip("this machine has no NVIDIA GPU (/dev/nvidia0)")
    assert count_gpus()[0] >= 1
