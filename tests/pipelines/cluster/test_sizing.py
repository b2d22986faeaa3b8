"""A server's memory and disk grow with what it serves, as a patch that kustomize takes."""

import subprocess
from pathlib import Path

import yaml

from pipelines.cluster import sizing
from tests.components.serve.served import write_sources
from tests.k8s.built import K8S, build, only, problems


def test_small_artifacts_need_little(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    container, volume = _sized(sizing.patch(sources.encoder_uri, sources.index_uri, sources.dataset_uri))
    # 512 MiB for the process and some kilobytes of files, in steps of 256 MiB.
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "768Mi", "ephemeral-storage": "512Mi"}
    assert volume == {"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}}


def test_memory_counts_the_weights_twice_and_disk_counts_everything_twice() -> None:
    gibibyte = 1 << 30
    # .5 + 2 x 1 + 5, and 2 x 6 + .25.
    assert sizing.needs(gibibyte, 5 * gibibyte) == {"memory": "7680Mi", "ephemeral-storage": "12544Mi"}


def test_kustomize_takes_the_patch(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "artifacts")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "resources.yaml").write_text(sizing.patch(sources.encoder_uri, sources.index_uri))
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": [_relative(overlay)], "patches": [{"path": "resources.yaml"}]})
    )
    deployment = only(build(overlay), "Deployment")
    assert problems(deployment) == []
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["requests"]["memory"] == "768Mi"
    # The patch adds nothing beside what it names.
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp", "home", "api-keys"]
    assert len(pod["containers"]) == 1


def _relative(folder: Path) -> str:
    command = ["realpath", f"--relative-to={folder}", str(K8S / "base")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _sized(patch: str) -> tuple[dict[str, object], dict[str, object]]:
    pod = yaml.safe_load(patch)["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    return container, volume
