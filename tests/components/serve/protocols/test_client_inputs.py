"""What clients really send: null fields, packed bodies, tensors in every form; served rightly or refused by name."""

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from components.export.config import ExportConfig
from components.serve.release import NotFiniteScoreError
from components.serve.service import Service
from components.shared.encoding.encoder import GRAPH_NAME, Encoder
from components.shared.manifest import artifact_writer
from components.shared.records import Hit
from tests.components.serve.served import PASSAGES, InProcess, Sources
from tests.tiny_encoder import words_of, write_tiny_encoder_files, write_tiny_index

EMBEDDINGS, INFER, SEARCH = "/v1/embeddings", "/v2/models/encoder/infer", "/search"


@pytest.fixture(scope="module")
def prefixed(prefixed_sources: Sources) -> Iterator[InProcess]:
    server = InProcess(prefixed_sources.config(num_sessions=1, max_texts=8, max_body_bytes=20_000, max_depth=20))
    yield server
    server.close()


def expected(server: InProcess, texts: Sequence[str], input_type: str) -> np.ndarray:
    encoder = server.service.release.encoder
    tokenize = encoder.tokenize_queries if input_type == "query" else encoder.tokenize_passages
    return encoder.encode_tokens(tokenize(texts))


def vectors_of(answer: httpx.Response) -> np.ndarray:
    """The vectors of an answer of either protocol, in whatever form they are."""
    assert answer.status_code == 200, answer.text
    length = answer.headers.get("inference-header-content-length")
    head = json.loads(answer.content[: int(length)] if length else answer.content)
    if "data" in head:
        rows = [row["embedding"] for row in head["data"]]
        packed = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows if isinstance(row, str)]
        return np.array(packed or rows)
    (output,) = head["outputs"]
    if length:
        content = answer.content[int(length) :]
        assert output["parameters"]["binary_data_size"] == len(content)
        return np.frombuffer(content, "<f4").reshape(output["shape"])
    return np.array(output["data"], np.float32).reshape(output["shape"])


def tensor(data: list[Any], *shape: int, **fields: object) -> dict[str, object]:
    return {"name": "text", "datatype": "BYTES", "shape": list(shape), "data": data, **fields}


# A body as a client of each kind sends it, the texts that it holds and what they are.
SERVED: list[tuple[str, dict[str, Any], list[str], str]] = [
    (
        EMBEDDINGS,
        {
            "input": ["volcano", "glacier"],
            "model": None,
            "dimensions": None,
            "user": None,
            "encoding_format": None,
            "input_type": None,
            "truncate": None,
            "tokens_of": None,
        },
        ["volcano", "glacier"],
        "query",
    ),
    (EMBEDDINGS, {"input": "volcano", "model": ""}, ["volcano"], "query"),
    (EMBEDDINGS, {"input": "volcano", "model": "encoder", "input_type": "passage"}, ["volcano"], "passage"),
    (EMBEDDINGS, {"input": "volcano", "model": "encoder-passage", "input_type": "passage"}, ["volcano"], "passage"),
    (EMBEDDINGS, {"input": "volcano", "encoding_format": "base64", "extra": None}, ["volcano"], "query"),
    (EMBEDDINGS, {"input": ["null"], "dimensions": 32}, ["null"], "query"),
    (INFER, {"inputs": [tensor(["volcano", "bakery"], 2)]}, ["volcano", "bakery"], "query"),
    (INFER, {"inputs": [tensor(["volcano", "bakery"], 2, 1)]}, ["volcano", "bakery"], "query"),
    (INFER, {"inputs": [tensor([["volcano"], ["bakery"]], 2, 1)]}, ["volcano", "bakery"], "query"),
    (
        INFER,
        {"inputs": [tensor(["volcano"], 1, parameters=None)], "id": None, "outputs": None, "parameters": None},
        ["volcano"],
        "query",
    ),
    (
        INFER,
        {
            "inputs": [tensor(["volcano"], 1, 1, parameters={"content_type": "str", "binary_data_size": None})],
            "outputs": [{"name": "embedding", "parameters": None}],
            "parameters": {"input_type": "passage", "truncate": None, "priority": 3},
        },
        ["volcano"],
        "passage",
    ),
    (
        "/v2/models/encoder-passage/infer",
        {"inputs": [tensor(["volcano"], 1)], "parameters": {"binary_data_output": True}},
        ["volcano"],
        "passage",
    ),
    (
        INFER,
        {"inputs": [tensor(["a", "b"], 2)], "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}]},
        ["a", "b"],
        "query",
    ),
]


@pytest.mark.parametrize(("path", "body", "texts", "input_type"), SERVED)
def test_what_clients_send_is_served_with_the_encoders_vectors(
    prefixed: InProcess, path: str, body: dict[str, Any], texts: list[str], input_type: str
) -> None:
    answer = prefixed.request("POST", path, json=body)
    assert vectors_of(answer) == pytest.approx(expected(prefixed, texts, input_type), abs=1e-6)


def test_null_fields_of_a_search_are_fields_left_out(prefixed: InProcess) -> None:
    names = ("depth", "include_text", "truncate", "passage_ids", "exclude_passage_ids")
    with_nulls = prefixed.post(SEARCH, query="danger of a volcano", **dict.fromkeys(names))
    assert with_nulls.json() == prefixed.post(SEARCH, query="danger of a volcano").json()
    assert len(with_nulls.json()["hits"]) == 10


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    (EMBEDDINGS, {"input": None}, 400, "input: missing; send a text or a list of texts"),
    (EMBEDDINGS, {"input": ["volcano", None]}, 400, "input[1]: null is not a text"),
    (
        EMBEDDINGS,
        {"input": [[100, 200]]},
        400,
        "langchain_openai does with OpenAIEmbeddings(check_embedding_ctx_length",
    ),
    (EMBEDDINGS, {"input": [100, 200]}, 400, "is not this encoder's; send text"),
    (EMBEDDINGS, {"input": [[1, 2], "volcano"]}, 400, "texts and token ids are mixed"),
    (
        EMBEDDINGS,
        {"input": [[1, 2]], "tokens_of": "cl100k_base"},
        400,
        "tokens_of: 'cl100k_base' is neither this encoder",
    ),
    (EMBEDDINGS, {"input": "volcano", "tokens_of": "cl100k_base"}, 400, "tokens_of: input holds text"),
    (EMBEDDINGS, {"input": [[]]}, 400, "input[0]: [] is not a text or an integer"),
    (EMBEDDINGS, {"input": [[-1]]}, 400, "input[0][0]: -1 is not an integer of at least 0"),
    (EMBEDDINGS, {"input": [[1.5]]}, 400, "input[0][0]: 1.5 is not an integer"),
    (EMBEDDINGS, {"input": "volcano", "model": "encoder-pasage"}, 404, "no such model: 'encoder-pasage'"),
    (
        EMBEDDINGS,
        {"input": "x", "model": "encoder-query", "input_type": "passage"},
        400,
        "contradicts the model's name",
    ),
    (EMBEDDINGS, {"input": "x", "dimensions": True}, 400, "dimensions: true is not an integer"),
    (EMBEDDINGS, {"input": "x", "dimensions": 10**30}, 400, f"dimensions: {10**30}, but this encoder has 32"),
    (SEARCH, {"query": "x", "depth": 10**30}, 400, f"depth: {10**30} is not an integer from 1 to 20"),
    (SEARCH, {"query": "x", "top_k": 3}, 400, "unknown field 'top_k'; known are depth"),
    (INFER, {"inputs": [tensor(["x", "y"], 1, 2)]}, 400, "inputs[0].shape: [1, 2] is neither [2] nor [2, 1]"),
    (INFER, {"inputs": [tensor([["x", "y"]], 2)]}, 400, "inputs[0].data[0]"),
    (INFER, {"inputs": [tensor([["x"], [""]], 2, 1)]}, 400, "inputs[0].data[1]: the text is empty"),
    (INFER, {"inputs": [tensor(["x"], 1), tensor(["y"], 1)]}, 400, "inputs: "),
    (
        INFER,
        {"inputs": [tensor(["x"], 1, parameters={"shared_memory_region": "r"})]},
        400,
        "shared_memory_region: this server reads no shared memory",
    ),
    (
        INFER,
        {"inputs": [tensor(["x"], 1)], "outputs": [{"name": "embedding", "parameters": {"classification": 3}}]},
        400,
        "outputs[0].parameters.classification: this server sends the vectors only",
    ),
    (INFER, {"inputs": [tensor(["x"], 1, parameters={"binary_data_size": 5})]}, 400, "has both data and bytes"),
    ("/v2/models/encoder/versions/1/infer", {"inputs": [tensor(["x"], 1)]}, 404, "no such version: '1'; version"),
    ("/v2/models/other/infer", {"inputs": [tensor(["x"], 1)]}, 404, "no such model: 'other'"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(
    prefixed: InProcess, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    answer = prefixed.request("POST", path, json=body)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert message in (error if isinstance(error, str) else error["message"])


def test_token_ids_are_served_where_the_client_names_the_encoder(prefixed: InProcess) -> None:
    release = prefixed.service.release
    token_ids = release.encoder.tokenize_queries(["volcano craft", "glacier"])
    for name in (release.encoder.digest, release.version):
        answer = prefixed.post(EMBEDDINGS, input=token_ids, tokens_of=name)
        assert vectors_of(answer) == pytest.approx(expected(prefixed, ["volcano craft", "glacier"], "query"), abs=1e-6)
        assert answer.json()["usage"]["prompt_tokens"] == sum(map(len, token_ids))
    size = release.encoder.num_token_ids
    beyond = prefixed.post(EMBEDDINGS, input=[size - 1, size], tokens_of=release.version)
    assert f"token id {size} is none of this encoder's, which end at {size - 1}" in beyond.json()["error"]["message"]
    long = prefixed.post(EMBEDDINGS, input=[1] * 33, tokens_of=release.version, truncate=True)
    assert (long.status_code, "the server cuts texts only" in long.text) == (413, True)


def test_models_say_what_a_text_is_taken_for(prefixed: InProcess) -> None:
    bare, query, passage = prefixed.get("/v1/models").json()["data"]
    assert (bare["input_type"], query["input_type"], passage["input_type"]) == ("query", "query", "passage")
    assert "the same as encoder-query" in bare["description"]
    assert (query["max_tokens"], passage["max_tokens"]) == (32, 64)
    assert "'asked '" in query["description"]
    assert passage == prefixed.get("/v1/models/encoder-passage").json()
    assert prefixed.get("/v1/models/gpt").status_code == 404


PLAIN = json.dumps({"input": "volcano"}).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PLAIN, mtime=0)),
        ("GZIP", gzip.compress(PLAIN, mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("identity", PLAIN),
    ],
)
def test_packed_bodies_are_read(prefixed: InProcess, encoding: str, body: bytes) -> None:
    answer = prefixed.request("POST", EMBEDDINGS, content=body, headers={"content-encoding": encoding})
    assert vectors_of(answer) == pytest.approx(expected(prefixed, ["volcano"], "query"), abs=1e-6)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("br", PLAIN, 415, "'br' is not one of gzip, deflate, identity"),
        ("gzip, gzip", PLAIN, 415, "is not one of gzip, deflate, identity"),
        ("gzip", PLAIN, 400, "the body is not gzip"),
        ("gzip", gzip.compress(PLAIN, mtime=0)[:-4], 400, "the body is not one whole gzip stream"),
        ("gzip", gzip.compress(PLAIN, mtime=0) + b"more", 400, "the body is not one whole gzip stream"),
        ("gzip", gzip.compress(b" " * 10_000_000, mtime=0), 413, "the body is longer than 20000 bytes"),
    ],
)
def test_bodies_that_cannot_be_unpacked_are_refused(
    prefixed: InProcess, encoding: str, body: bytes, status: int, message: str
) -> None:
    answer = prefixed.request("POST", EMBEDDINGS, content=body, headers={"content-encoding": encoding})
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True)
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip, deflate"


def binary(*elements: bytes, size: int | None = None, shape: list[int] | None = None) -> tuple[bytes, bytes]:
    """JSON and bytes of a request with a binary tensor; `size` and `shape` where they are to be wrong."""
    content = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    given = {"name": "text", "datatype": "BYTES", "shape": shape or [len(elements)]}
    parameters = {"binary_data_size": len(content) if size is None else size}
    return json.dumps({"inputs": [{**given, "parameters": parameters}]}).encode(), content


@pytest.mark.parametrize(
    ("head", "content", "message"),
    [
        (*binary(b"volcano", size=3), "binary_data_size: 3, but 11 bytes follow the JSON"),
        (*binary(b"volcano", shape=[2]), "inputs[0].shape: [2] is neither [1] nor [1, 1]"),
        (*binary(b"volcano", b""), "inputs[0].data[1]: the text is empty"),
        (*binary(b"caf\xe9"), "inputs[0]: element 0 is not UTF-8"),
        (binary(b"x", size=6)[0], b"\x09\x00\x00\x00xx", "element 0 ends beyond the tensor"),
        (binary(b"x", size=7)[0], b"\x01\x00\x00\x00x\x01\x00", "element 1 ends beyond the tensor"),
        (binary(shape=[1])[0], b"", "inputs[0]: the tensor is empty"),
        (json.dumps({"inputs": [tensor(["x"], 1)]}).encode(), b"more", "has both data and bytes behind the JSON"),
    ],
)
def test_binary_tensors_that_do_not_agree_with_their_description_are_refused(
    prefixed: InProcess, head: bytes, content: bytes, message: str
) -> None:
    headers = {"inference-header-content-length": str(len(head))}
    answer = prefixed.request("POST", INFER, content=head + content, headers=headers)
    assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize("length", ["", "-1", "x", "99999"])
def test_a_length_of_the_json_that_cannot_be_is_refused(prefixed: InProcess, length: str) -> None:
    head, content = binary(b"volcano")
    headers = {"inference-header-content-length": length}
    answer = prefixed.request("POST", INFER, content=head + content, headers=headers)
    assert answer.status_code == 400
    assert "inference-header-content-length" in answer.json()["error"]


def test_what_was_cut_is_counted_and_shown(prefixed_sources: Sources) -> None:
    server = InProcess(prefixed_sources.config(num_sessions=1))
    long = "volcano danger " * 50
    cut = server.post(EMBEDDINGS, input=[long, "volcano", long], truncate=True, model="encoder-passage")
    whole = server.post(EMBEDDINGS, input=["volcano"], truncate=True)
    searched = server.post(SEARCH, query=long, truncate=True)
    refused = server.post(SEARCH, query=long)
    metrics = server.get("/metrics").text
    server.close()
    assert vectors_of(cut) == pytest.approx(expected(server, [long, "volcano", long], "passage"), abs=1e-6)
    assert (cut.headers["retriever-truncated-texts"], searched.headers["retriever-truncated-texts"]) == ("2", "1")
    assert "retriever-truncated-texts" not in whole.headers
    assert refused.status_code == 413
    for line in (
        'retriever_texts_total{input_type="passage"} 3.0',
        'retriever_texts_truncated_total{input_type="passage"} 2.0',
        'retriever_texts_total{input_type="query"} 2.0',
        'retriever_texts_truncated_total{input_type="query"} 1.0',
    ):
        assert line in metrics


def damaged_sources(sources: Sources, folder: Path, word: str, value: float) -> Sources:
    """The artifacts with an encoder in which one word's vector is not finite; the index is of this very encoder."""
    words = words_of([passage.full_text for passage in PASSAGES] + ["unspoken"])
    encoder, index = folder / "encoder", folder / "index"
    with artifact_writer("export", ExportConfig(checkpoint_uri="damaged", output_uri=str(encoder))) as artifact:
        write_tiny_encoder_files(artifact.path, 0, words)
        (row,) = Encoder(artifact.path).tokenize_queries([word])[0][1:-1]
        graph = onnx.load(str(artifact.path / GRAPH_NAME))
        (weights,) = [weights for weights in graph.graph.initializer if weights.name == "embeddings"]
        embeddings = numpy_helper.to_array(weights).copy()
        embeddings[row] = value
        weights.CopyFrom(numpy_helper.from_array(embeddings, "embeddings"))
        onnx.save(graph, str(artifact.path / GRAPH_NAME))
    write_tiny_index(index, dataset=Path(sources.dataset_uri), encoder=encoder)
    return replace(sources, encoder_uri=str(encoder), index_uri=str(index))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_a_500_with_its_reason_and_never_null(
    sources: Sources, tmp_path: Path, value: float
) -> None:
    server = InProcess(damaged_sources(sources, tmp_path, "unspoken", value).config(num_sessions=1))
    for path, body in (
        (EMBEDDINGS, {"input": ["volcano", "an unspoken word"]}),
        (EMBEDDINGS, {"input": ["volcano", "unspoken"], "encoding_format": "base64"}),
        (SEARCH + "/batch", {"queries": ["volcano", "unspoken"]}),
        (INFER, {"inputs": [tensor(["volcano", "unspoken"], 2)]}),
        (INFER, {"inputs": [tensor(["volcano", "unspoken"], 2)], "parameters": {"binary_data_output": True}}),
    ):
        answer = server.post(path, **body)
        error = answer.json()["error"]
        assert answer.status_code == 500
        assert "text 1: its vector is not finite" in str(error)
    assert server.post(SEARCH, query="unspoken").status_code == 500
    assert server.post(SEARCH, query="volcano").status_code == 200
    metrics = server.get("/metrics").text
    server.close()
    assert "retriever_not_finite_total 6.0" in metrics
    assert 'retriever_requests_total{path="/search",status="500"} 1.0' in metrics


def test_a_vector_that_is_not_finite_fails_no_other_request_of_its_batch(sources: Sources, tmp_path: Path) -> None:
    server = InProcess(damaged_sources(sources, tmp_path, "unspoken", np.nan).config(num_sessions=1, batch_tokens=64))

    async def crowd() -> list[httpx.Response]:
        texts = ["volcano", "unspoken", "glacier", "violin"] * 10
        return await asyncio.gather(*(server.client.post(EMBEDDINGS, json={"input": text}) for text in texts))

    answers = server.run(crowd())
    healthy = server.get("/healthz").status_code
    server.close()
    assert [answer.status_code for answer in answers] == [200, 500, 200, 200] * 10
    assert healthy == 200


def test_an_encoder_that_gives_no_finite_vector_at_all_is_refused_at_start(sources: Sources, tmp_path: Path) -> None:
    damaged = damaged_sources(sources, tmp_path, "warm", np.nan)  # an unknown word, as many are
    with pytest.raises(ValueError, match="encoder: text 0 of 1: its vector is not finite"):
        Service(damaged.config(num_sessions=1))


def test_a_score_that_is_not_finite_names_its_passage(server: InProcess) -> None:
    rankings = [[Hit("volcano-craft", 0.5)], [Hit("glacier-craft", 0.5), Hit("bakery-craft", np.nan)]]
    with pytest.raises(NotFiniteScoreError, match="passage 'bakery-craft': its score is not finite"):
        server.service.release.check_scores(rankings)
