"""An image's name is one that a cluster can rely on, or it is refused with what to set."""

import json
from pathlib import Path

import pytest

from pipelines.cluster.images import image, image_problems

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
