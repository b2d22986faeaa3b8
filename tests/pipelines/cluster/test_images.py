"""An image's name is one that a cluster can rely on, or it is refused with what to set."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pipelines.cluster.images import build_of, image, image_problems
from pipelines.resources import PROFILES

_ROOT = Path(__file__).parents[3]
_DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_an_image_reference_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "example.com/team/")
    monkeypatch.setenv("TAG", "7")
    assert image("train") == "example.com/team/train:7"
    monkeypatch.setenv("IMAGE_TRAIN", "example.com/train@sha256:00")
    assert image("train") == "example.com/train@sha256:00"
    assert image("mine") == "example.com/team/mine:7"


def test_a_file_of_digests_pins_every_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    path.write_text(json.dumps({"train": f"example.com/train@{_DIGEST}", "mine": "example.com/mine:7"}))
    monkeypatch.setenv("IMAGE_DIGESTS", str(path))
    assert image("train") == f"example.com/train@{_DIGEST}"
    assert list(image_problems(["train"])) == []
    with pytest.raises(ValueError, match=r"component mine has no reference by digest.*set IMAGE_MINE"):
        image("mine")
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot be read"):
        image("train")


@pytest.mark.parametrize("tag", ["latest", "main", "dev"])
def test_a_tag_that_moves_is_refused(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "example.com:5000/team")
    monkeypatch.setenv("TAG", tag)
    (problem,) = image_problems(["train"])
    assert problem.startswith(f"image example.com:5000/team/train:{tag}: its tag moves")


def test_no_tag_at_all_and_half_a_digest_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_TRAIN", "example.com:5000/train")
    monkeypatch.setenv("IMAGE_MINE", "example.com/mine@sha256:00")
    mine, train = image_problems(["train", "mine"])
    assert "is no digest" in mine
    assert "its tag moves" in train


def test_the_registry_that_only_this_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY", raising=False)
    (problem,) = image_problems(["train", "train"])
    assert "names no registry that a cluster could pull from; set REGISTRY" in problem
    # Said aloud it is a node's own.
    monkeypatch.setenv("REGISTRY", "retriever")
    assert list(image_problems(["train"])) == []


# A fake of the program: it counts what it built and pushed, and a registry's digest is that count.
_DOCKER = """#!/bin/sh
set -e
echo "$@" >>"$CALLS"
if [ "$1" = run ]; then echo '{"bomFormat": "CycloneDX"}'; fi
if [ "$1 $2" = "image inspect" ]; then
    case "$4" in *Size*) echo "${SIZE:-100000000}"; exit; esac
    shift 4
    repository=${1%:*}
    echo "elsewhere/$repository@sha256:$(printf '%064d' 1)"
    echo "$repository@sha256:$(printf '%064d' "$(grep -c push "$CALLS")")"
fi
"""


def _make_images(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    program = folder / "docker"
    program.write_text(_DOCKER)
    program.chmod(0o755)
    variables = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "DIGESTS": str(folder / "digests.json"),
        **environment,
    }
    command = ["sh", str(_ROOT / "docker" / "images.sh"), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True)


def test_pushed_images_are_pinned_by_the_digests_that_the_registry_gave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = _make_images(tmp_path, "example.com:5000/team", "7", "mine", "annotate", PUSH="1")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["build", "image", "build", "image", "push", "image", "push", "image"]
    assert not {"BASE_IMAGE", "MORE", "VARIANT"} & set(calls[0].replace("=", " ").split())
    # Its image holds a C compiler.
    assert "--build-arg BASE_IMAGE=python:3.11-bookworm" in calls[2]
    monkeypatch.delenv("REGISTRY", raising=False)
    monkeypatch.delenv("TAG", raising=False)
    monkeypatch.setattr("pipelines.cluster.images.PUSHED_DIGESTS", tmp_path / "digests.json")
    assert image("mine") == f"example.com:5000/team/mine@sha256:{1:064d}"
    assert image("annotate") == f"example.com:5000/team/annotate@sha256:{2:064d}"
    assert list(image_problems(["mine", "annotate"])) == []
    # Who says another registry means it.
    monkeypatch.setenv("REGISTRY", "example.com/other")
    assert image("mine").startswith("example.com/other/mine:")


def test_what_sends_traces_is_added_where_asked_and_where_vllm_does_not_bring_it(tmp_path: Path) -> None:
    assert _make_images(tmp_path, "retriever", "7", "mine", "annotate", TRACES="1").returncode == 0
    mine, _, annotate, _ = (tmp_path / "calls").read_text().splitlines()
    assert "--build-arg MORE=traces.lock" in mine
    assert "MORE" not in annotate


def test_a_variant_for_gpus_is_built_pushed_and_pinned_beside_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = _make_images(tmp_path, "example.com/team", "7", "prepare", "index", "train", PUSH="1", VARIANT="gpu")
    assert done.returncode == 0, done.stderr
    builds = [call for call in (tmp_path / "calls").read_text().splitlines() if call.startswith("build ")]
    tags = [call.split("--tag ")[1].split()[0] for call in builds]
    # What holds torch is a build for GPUs in the first place, and prepare computes nothing.
    repository = "example.com/team"
    assert tags == [f"{repository}/{name}" for name in ("prepare:7", "index:7", "index:7-gpu", "train:7")]
    assert ["VARIANT=gpu" in call for call in builds] == [False, False, True, False]
    monkeypatch.setenv("IMAGE_DIGESTS", str(tmp_path / "digests.json"))
    assert image("index-gpu") == f"{repository}/index@sha256:{3:064d}"
    assert image("index") == f"{repository}/index@sha256:{2:064d}"
    done = _make_images(tmp_path, "example.com/team", "7", "index", VARIANT="tpu")
    assert (done.returncode, "VARIANT=tpu is not known; gpu is" in done.stderr) == (2, True)


def test_a_task_with_a_gpu_runs_the_build_for_gpus_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "example.com/team")
    monkeypatch.setenv("TAG", "7")
    builds = {component: build_of(component, row) for component, row in PROFILES["gke-l4"].items()}
    assert {name for name, build in builds.items() if build != name} == {"index"}
    assert image(builds["index"]) == "example.com/team/index:7-gpu"
    assert image(builds["train"]) == "example.com/team/train:7"
    assert {build_of(component, row) for component, row in PROFILES["kind"].items()} == set(PROFILES["kind"])
    monkeypatch.setenv("IMAGE_INDEX_GPU", "example.com/mine@sha256:00")
    assert image("index-gpu") == "example.com/mine@sha256:00"
    assert image("index") == "example.com/team/index:7"


def test_an_image_above_its_budget_fails_the_build_and_one_without_a_budget_too(tmp_path: Path) -> None:
    done = _make_images(tmp_path, "retriever", "7", "check", SIZE="469000000")
    assert (done.returncode, "retriever/check:7: 469 MB of 470" in done.stdout) == (0, True), done.stderr
    done = _make_images(tmp_path, "retriever", "7", "check", "mine", SIZE="471000000")
    assert done.returncode == 1
    assert "the image of check has 471 MB, docker/budgets.txt allows 470" in done.stderr
    assert "retriever/mine" not in (tmp_path / "calls").read_text()
    done = _make_images(tmp_path, "retriever", "7", "nobody")
    assert (done.returncode, "docker/budgets.txt has no line for nobody" in done.stderr) == (1, True)


def test_the_list_of_what_an_image_holds_is_written_out_where_asked(tmp_path: Path) -> None:
    assert _make_images(tmp_path, "retriever", "7", "mine", SBOMS=str(tmp_path / "sboms")).returncode == 0
    (written,) = (tmp_path / "sboms").iterdir()
    assert (written.name, json.loads(written.read_text())) == ("mine.cdx.json", {"bomFormat": "CycloneDX"})


def test_images_that_were_not_pushed_have_no_digest(tmp_path: Path) -> None:
    assert _make_images(tmp_path, "retriever", "7", "mine").returncode == 0
    assert not (tmp_path / "digests.json").exists()
    done = _make_images(tmp_path, "retriever", "7", "mine", PUSH="1")
    assert (done.returncode, "retriever is no registry to push to" in done.stderr) == (2, True)


def test_a_failed_push_leaves_no_digests_of_earlier_images(tmp_path: Path) -> None:
    (tmp_path / "digests.json").write_text("{}")
    done = _make_images(tmp_path, "example.com/team", "7", "mine", PUSH="1", CALLS="/nowhere/calls")
    assert done.returncode != 0
    assert not (tmp_path / "digests.json").exists()
