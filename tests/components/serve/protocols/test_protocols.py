"""The protocols beside our own, filters, and the document that describes it all."""

import numpy as np
import pytest

from components.serve.metrics import PATHS
from tests.components.serve.served import PASSAGES, InProcess

INFER = "/v2/models/encoder/infer"


def tensor(*texts: str) -> dict[str, object]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}


def test_the_open_inference_protocol_gives_the_encoders_vectors(server: InProcess) -> None:
    texts = ["volcano", "a violin told in plain words", "glacier"]
    answer = server.post(INFER, id="42", inputs=[tensor(*texts)], parameters={"input_type": "passage"}).json()
    (output,) = answer["outputs"]
    vectors = np.array(output["data"], dtype=np.float32).reshape(output["shape"])
    encoder = server.service.release.encoder
    expected = encoder.encode_tokens(encoder.tokenize_passages(texts))
    assert vectors == pytest.approx(expected, abs=1e-6)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == (
        "42",
        "encoder-passage",
        server.service.release.version,
    )
    assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [3, encoder.dimension])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "inputs: missing"),
        ({"inputs": []}, "inputs: [] is not a list of one: an object"),
        ({"inputs": [{**tensor("x"), "datatype": "FP32"}]}, 'inputs[0].datatype: "FP32" is not "BYTES"'),
        (
            {"inputs": [{**tensor("x"), "shape": [2]}]},
            "inputs[0].shape: [2] is neither [1] nor [1, 1], and 1 texts were sent",
        ),
        ({"inputs": [tensor("x", "")]}, "inputs[0].data[1]: the text is empty"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]}, "inputs[0].data: missing"),
        ({"inputs": [tensor("x")], "outputs": [{"name": "logits"}]}, 'outputs[0].name: "logits" is not "embedding"'),
        ({"inputs": [tensor("x")], "parameters": 3}, "parameters: 3 is not an object"),
        ({"inputs": [tensor("x")], "id": 3}, "id: 3 is not a text"),
    ],
)
def test_a_wrong_inference_request_is_told_so_in_the_protocols_shape(
    server: InProcess, body: dict[str, object], message: str
) -> None:
    answer = server.post(INFER, **body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_metadata_of_server_and_model(server: InProcess) -> None:
    assert server.get("/v2").json()["name"] == "retriever"
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/models/encoder/ready").json() == {"name": "encoder", "ready": True}
    model = server.get("/v2/models/encoder").json()
    assert model["versions"] == [server.service.release.version]
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 32]}]
    names = ["encoder", "encoder-query", "encoder-passage"]
    assert [named["id"] for named in server.get("/v1/models").json()["data"]] == names
    missing = server.get("/v2/models/another")
    assert (missing.status_code, missing.json()) == (
        404,
        {"error": "no such model: 'another'; this server has encoder, encoder-query, encoder-passage"},
    )


def test_a_search_among_some_passages_ranks_exactly_these(server: InProcess) -> None:
    chosen = ["violin-craft", "bakery-danger", "beehive-season", "nowhere"]
    hits = server.post("/search", query="the danger of a volcano", passage_ids=chosen).json()["hits"]
    everything = server.post("/search", query="the danger of a volcano", depth=20).json()["hits"]
    scores = {hit["passage_id"]: hit["score"] for hit in everything}
    assert {hit["passage_id"] for hit in hits} == set(chosen[:3])
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    for hit in hits:
        assert hit["score"] == pytest.approx(scores.get(hit["passage_id"], hit["score"]), abs=1e-6)


def test_a_search_without_some_passages_gives_as_many_of_the_rest(server: InProcess) -> None:
    everything = [hit["passage_id"] for hit in server.post("/search", query="danger volcano", depth=6).json()["hits"]]
    rest = server.post(
        "/search", query="danger volcano", depth=4, exclude_passage_ids=[everything[0], everything[2]]
    ).json()["hits"]
    assert [hit["passage_id"] for hit in rest] == [everything[place] for place in (1, 3, 4, 5)]
    both = server.post(
        "/search", query="danger volcano", passage_ids=everything[:2], exclude_passage_ids=everything[:1]
    ).json()["hits"]
    assert [hit["passage_id"] for hit in both] == everything[1:2]


def test_hits_come_without_text_where_it_is_not_wanted(server: InProcess) -> None:
    hits = server.post("/search", query="volcano", include_text=False).json()["hits"]
    assert {tuple(hit) for hit in hits} == {("passage_id", "score")}


def test_what_is_too_long_is_cut_only_when_asked(server: InProcess) -> None:
    long = "volcano danger " * 50
    assert server.post("/search", query=long).status_code == 413
    cut = server.post("/search", query=long, truncate=True).json()["hits"]
    whole = server.post("/search", query=" ".join(long.split()[:30])).json()["hits"]
    assert [hit["score"] for hit in cut] == pytest.approx([hit["score"] for hit in whole], abs=1e-6)
    assert server.post(INFER, inputs=[tensor(long)]).status_code == 413
    assert server.post(INFER, inputs=[tensor(long)], parameters={"truncate": True}).status_code == 200


def test_every_answer_names_its_release(server: InProcess) -> None:
    version = server.service.release.version
    for answer in (
        server.post("/search", query="volcano"),
        server.post("/search/batch", queries=["volcano"]),
        server.post("/v1/embeddings", input="volcano"),
        server.post(INFER, inputs=[tensor("volcano")]),
    ):
        assert answer.headers["retriever-version"] == version
    assert server.get("/readyz").json()["version"] == version


def test_the_document_describes_every_path_that_is_counted(server: InProcess) -> None:
    document = server.get("/openapi.json").json()
    paths = document["paths"]
    assert set(paths) == set(PATHS) - {"/", "/openapi.json"}
    assert paths["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/SearchBody"
    }
    search = document["components"]["schemas"]["SearchBody"]["properties"]
    assert search["depth"]["anyOf"][0]["maximum"] == 20
    assert search["passage_ids"]["anyOf"][0]["maxItems"] == 5


def test_the_page_fetches_nothing_from_elsewhere(server: InProcess) -> None:
    answer = server.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert len(PASSAGES) == server.get("/readyz").json()["passages"]
