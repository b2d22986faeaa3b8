"""The replaced function of KFP is replaced inside the block only, and only in the version that was read."""

import kfp
import pytest
from kfp.local import docker_task_handler

from tests.pipelines.docker_local import reliable_exit_codes


def test_kfp_is_as_before_after_the_block() -> None:
    original = docker_task_handler.run_docker_container
    with reliable_exit_codes():
        assert docker_task_handler.run_docker_container is not original
    assert docker_task_handler.run_docker_container is original


def test_another_version_of_kfp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kfp, "__version__", "2.99.0")
    with (
        pytest.raises(ValueError, match=r"kfp 2\.99\.0 is installed, runs in containers are checked with 2\.17\.0"),
        reliable_exit_codes(),
    ):
        pass
