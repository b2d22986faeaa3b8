"""`dimensions` of OpenAI's embeddings: those that the encoder declares, and no others."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.components.serve.served import InProcess, write_sources

_TEXTS = ["volcano", "the danger of a glacier"]


@pytest.fixture(scope="module")
def cutting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """A server whose encoder declares 16 and 4 of its 32 dimensions."""
    running = InProcess(write_sources(tmp_path_factory.mktemp("cutting"), matryoshka=[16, 4]).config())
    yield running
    running.close()


def _vectors(server: InProcess, **fields: object) -> np.ndarray:
    answer = server.post("/v1/embeddings", input=_TEXTS, **fields)
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]])


@pytest.mark.parametrize("dimensions", [16, 4])
def test_vectors_are_cut_and_scaled_again(cutting: InProcess, dimensions: int) -> None:
    whole, cut = _vectors(cutting), _vectors(cutting, dimensions=dimensions)
    kept = whole[:, :dimensions]
    assert cut == pytest.approx(kept / np.linalg.norm(kept, axis=1, keepdims=True), abs=1e-6)
    assert _vectors(cutting, dimensions=32) == pytest.approx(whole)


@pytest.mark.parametrize("dimensions", [8, 64, 0, -4])
def test_dimensions_that_are_not_declared_are_refused_with_those_that_are(cutting: InProcess, dimensions: int) -> None:
    answer = cutting.post("/v1/embeddings", input=_TEXTS, dimensions=dimensions)
    assert answer.status_code == 400
    assert f"dimensions: {dimensions}, but this encoder has 32, 16, 4; ask for one of these" in answer.text


def test_an_encoder_that_declares_none_says_how_to_get_one(server: InProcess) -> None:
    answer = server.post("/v1/embeddings", input=_TEXTS, dimensions=16)
    assert answer.status_code == 400
    assert "this encoder has 32; leave the field out, or train an encoder that may be cut" in answer.text


def test_the_models_say_what_they_offer(cutting: InProcess, server: InProcess) -> None:
    for running, offered in ((cutting, [32, 16, 4]), (server, [32])):
        assert [model["dimensions"] for model in running.get("/v1/models").json()["data"]] == [offered] * 3


def test_searching_uses_whole_vectors(cutting: InProcess) -> None:
    assert cutting.post("/search", query="volcano danger").json()["hits"][0]["passage_id"] == "volcano-danger"
