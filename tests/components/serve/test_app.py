"""What a client sees: answers, and a clear 4xx for everything that is wrong with a request."""

import asyncio
import base64
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from components.serve.app import create_app
from components.serve.service import Service
from tests.components.serve.served import PASSAGES, InProcess, Sources, write_sources

SEARCH, BATCH, EMBEDDINGS, INFER = "/search", "/search/batch", "/v1/embeddings", "/v2/models/encoder/infer"


def test_search_answers_each_query_with_its_best_passages_and_their_text(server: InProcess) -> None:
    queries = ["the danger of a volcano", "craft beehive"]
    answer = server.post(BATCH, queries=queries, depth=3)
    assert answer.status_code == 200
    passage_vectors = server.service.release.encoder.encode_passages(PASSAGES)
    for query, vector, result in zip(
        queries, server.service.release.encoder.encode_queries(queries), answer.json()["results"], strict=True
    ):
        best = np.argsort(-(passage_vectors @ vector), kind="stable")[:3]
        assert result["query"] == query
        assert [hit["passage_id"] for hit in result["hits"]] == [PASSAGES[row].passage_id for row in best]
        assert [hit["score"] for hit in result["hits"]] == pytest.approx(
            (passage_vectors @ vector)[best].tolist(), abs=1e-5
        )
        assert [(hit["title"], hit["text"]) for hit in result["hits"]] == [
            (PASSAGES[row].title, PASSAGES[row].text) for row in best
        ]


def test_one_query_is_answered_like_a_list_of_one_and_ten_hits_are_the_default(server: InProcess) -> None:
    one = server.post(SEARCH, query="season glacier").json()
    assert server.post(BATCH, queries=["season glacier"]).json() == {"results": [one]}
    assert len(one["hits"]) == 10


def test_embeddings_have_the_openai_shape_and_the_encoders_vectors(server: InProcess) -> None:
    texts = ["volcano", "a violin told in plain words"]
    answer = server.post(EMBEDDINGS, input=texts, model="encoder", user="somebody").json()
    assert [(row["object"], row["index"]) for row in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert np.allclose(
        [row["embedding"] for row in answer["data"]], server.service.release.encoder.encode_queries(texts), atol=1e-6
    )
    num_tokens = sum(map(len, server.service.release.encoder.tokenize_queries(texts)))
    assert (answer["object"], answer["model"]) == ("list", "encoder-query")
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_base64_embeddings_hold_the_same_floats(server: InProcess) -> None:
    floats, packed = (
        server.post(EMBEDDINGS, input="volcano", encoding_format=encoding_format).json()["data"][0]["embedding"]
        for encoding_format in ("float", "base64")
    )
    assert np.frombuffer(base64.b64decode(packed), dtype="<f4") == pytest.approx(floats)


def test_input_type_passage_takes_the_passages_length_and_prefix(server: InProcess) -> None:
    long = "volcano " * 200
    settings = server.service.release.encoder.settings
    assert settings.query_tokens != settings.passage_tokens
    for input_type, num_tokens in (("query", settings.query_tokens), ("passage", settings.passage_tokens)):
        answer = server.post(EMBEDDINGS, input=long, input_type=input_type, truncate=True).json()
        assert answer["usage"]["prompt_tokens"] == num_tokens


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (SEARCH, b"", 400, "the body is not JSON"),
        (SEARCH, b'{"query": "x"', 400, "the body is not JSON"),
        (SEARCH, b'{"query": "\xff"}', 400, "the body is not JSON"),
        (SEARCH, rb'{"query": "\ud800"}', 400, "the body is not JSON"),
        (SEARCH, b"[" * 5000, 400, "the body is not JSON"),
        (SEARCH, b"[]", 400, "the body is not a JSON object but []"),
        (SEARCH, b"{}", 400, "query: missing"),
        (BATCH, b"{}", 400, "queries: missing"),
        (
            SEARCH,
            b'{"query": "x", "queries": ["y"]}',
            400,
            "unknown field 'queries'; known are depth, mode, include_text",
        ),
        (SEARCH, b'{"query": ["x"]}', 400, 'query: ["x"] is not a text'),
        (SEARCH, b'{"query": null}', 400, "query: missing; send a text"),
        (SEARCH, b'{"query": " \\n"}', 400, "query: the text is empty"),
        (BATCH, b'{"queries": []}', 400, "queries: [] is not a list of texts that is not empty"),
        (BATCH, b'{"queries": "x"}', 400, 'queries: "x" is not a list'),
        (BATCH, b'{"queries": ["x", 3]}', 400, "queries[1]: 3 is not a text"),
        (BATCH, b'{"queries": ["x", ""]}', 400, "queries[1]: the text is empty"),
        (SEARCH, b'{"query": "x", "dept": 3}', 400, "unknown field 'dept'; known are"),
        (SEARCH, b'{"query": "x", "depth": 0}', 400, "depth: 0 is not an integer from 1 to 20"),
        (SEARCH, b'{"query": "x", "depth": 21}', 400, "depth: 21 is not"),
        (SEARCH, b'{"query": "x", "depth": true}', 400, "depth: true is not"),
        (SEARCH, b'{"query": "x", "depth": 2.5}', 400, "depth: 2.5 is not"),
        (SEARCH, b'{"query": "x", "depth": 1e400}', 400, ""),
        (BATCH, json.dumps({"queries": ["x"] * 9}).encode(), 413, "queries: 9 texts, this server takes 8 a request"),
        (SEARCH, json.dumps({"query": "x" * 30_000}).encode(), 413, "the body is longer than 20000 bytes"),
        (
            SEARCH,
            b'{"query": "x", "include_text": 1}',
            400,
            "include_text: 1 is not true or false. Title and text of each hit",
        ),
        (
            SEARCH,
            b'{"query": "x", "passage_ids": []}',
            400,
            "passage_ids: [] is not a list of texts that is not empty. Only these passages",
        ),
        (
            SEARCH,
            b'{"query": "x", "exclude_passage_ids": [1]}',
            400,
            "exclude_passage_ids[0]: 1 is not a text",
        ),
        (
            SEARCH,
            json.dumps({"query": "x", "passage_ids": ["p"] * 6}).encode(),
            413,
            "passage_ids: 6 passage ids, this server takes 5 a request",
        ),
        (
            SEARCH,
            json.dumps({"query": "volcano " * 40}).encode(),
            413,
            "text 0 has 42 tokens or more, the encoder takes 32 of a query",
        ),
        (
            EMBEDDINGS,
            json.dumps({"input": ["x", "ha " * 90], "input_type": "passage"}).encode(),
            413,
            "text 1 has 92 tokens or more",
        ),
        (EMBEDDINGS, b'{"input": "x", "truncate": "yes"}', 400, 'truncate: "yes" is not true or false'),
        (EMBEDDINGS, b"{}", 400, "input: missing"),
        (EMBEDDINGS, b'{"input": [[1, 2]]}', 400, "OpenAIEmbeddings(check_embedding_ctx_length=False)"),
        (EMBEDDINGS, b'{"input": [1, 2]}', 400, "OpenAIEmbeddings(check_embedding_ctx_length=False)"),
        (EMBEDDINGS, b'{"input": {}}', 400, "input: {} is not a text or a list of texts"),
        (EMBEDDINGS, b'{"input": "x", "model": 3}', 400, "model: 3 is not a text"),
        (EMBEDDINGS, b'{"input": "x", "dimensions": 3}', 400, "dimensions: 3, but this encoder has 32"),
        (
            EMBEDDINGS,
            b'{"input": "x", "encoding_format": "int8"}',
            400,
            'encoding_format: "int8" is not one of base64, float',
        ),
        (
            EMBEDDINGS,
            b'{"input": "x", "input_type": ["query"]}',
            400,
            'input_type: ["query"] is not one of passage, query',
        ),
        (EMBEDDINGS, json.dumps({"input": ["x"] * 9}).encode(), 413, "input: 9 texts"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    server: InProcess, path: str, body: bytes, status: int, message: str
) -> None:
    answer = server.request("POST", path, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", status)


def test_unknown_paths_and_methods_are_refused_in_json(server: InProcess) -> None:
    missing, wrong = server.get("/nothing"), server.get(SEARCH)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, 404)
    assert (wrong.status_code, wrong.json()["error"]["code"], wrong.headers["allow"]) == (405, 405, "POST")


def test_without_a_dataset_hits_are_ids_and_scores(sources: Sources) -> None:
    bare = Sources(sources.encoder_uri, sources.index_uri)
    server = InProcess(bare.config(num_sessions=1))
    hits = server.post(SEARCH, query="volcano").json()["hits"]
    server.close()
    assert {tuple(hit) for hit in hits} == {("passage_id", "score")}


def test_ready_only_after_the_warm_up_and_until_draining(sources: Sources) -> None:
    service = Service(sources.config(num_sessions=1))
    app = create_app(service)

    async def scenario() -> list[tuple[int, str]]:
        seen = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:

            async def look() -> None:
                answer = await client.get("/readyz")
                seen.append((answer.status_code, answer.json()["problem"]))

            await look()
            await service.start()
            await look()
            service.drain()
            await look()
            searched = await client.post(SEARCH, json={"query": "volcano"})
            assert (searched.status_code, searched.headers["connection"]) == (200, "close")
        service.stop()
        return seen

    assert asyncio.run(scenario()) == [(503, "warming up"), (200, ""), (503, "draining")]


def test_readyz_names_the_encoder_it_serves(server: InProcess) -> None:
    facts = server.get("/readyz").json()
    assert facts["encoder"] == server.service.release.index.settings.encoder_digest
    assert facts["passages"] == len(PASSAGES)


def test_metrics_exist_before_the_first_request_and_count_it(sources: Sources) -> None:
    server = InProcess(sources.config(num_sessions=1))
    before, after_search = server.get("/metrics").text, server.post(SEARCH, query="volcano")
    after = server.get("/metrics").text
    server.close()
    assert after_search.status_code == 200
    searched = 'retriever_requests_total{path="/search",status="200"}'
    assert f"{searched} 0.0" in before
    assert f"{searched} 1.0" in after
    for name in (
        'retriever_requests_total{path="/v1/embeddings",status="429"}',
        'retriever_request_seconds_bucket{le="0.005",path="/search"}',
        "retriever_queue_tokens",
        "retriever_batch_texts_bucket",
        "retriever_encode_seconds_count",
        "retriever_ready 1.0",
    ):
        assert name in before


def test_a_full_queue_is_429_with_the_time_to_come_back(sources: Sources) -> None:
    # A text a batch: thirty calls a request take longer than the next requests need to arrive, on any machine.
    server = InProcess(sources.config(num_sessions=1, batch_tokens=3, max_queued_tokens=200, request_seconds=5.0))

    async def crowd() -> list[httpx.Response]:
        body = {"input": ["volcano"] * 30}  # 90 tokens
        return await asyncio.gather(*(server.client.post(EMBEDDINGS, json=body) for _ in range(40)))

    answers = server.run(crowd())
    server.close()
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = answers[statuses.index(429)]
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_more_tokens_than_the_queue_ever_takes_is_413_and_not_429(sources: Sources) -> None:
    server = InProcess(sources.config(num_sessions=1, max_queued_tokens=64))
    answer = server.post(EMBEDDINGS, input=["volcano"] * 30)  # 90 tokens
    server.close()
    assert answer.status_code == 413
    assert "90 tokens, this server takes 64" in answer.json()["error"]["message"]


def test_too_long_in_the_queue_is_503(sources: Sources) -> None:
    # As good as no time: whatever the machine's speed, the answer is late.
    server = InProcess(sources.config(num_sessions=1))
    server.service.config = sources.config(num_sessions=1, request_seconds=1e-9)
    answer = server.post(SEARCH, query="volcano")
    server.close()
    assert answer.status_code == 503
    assert "not answered within 1e-09 s" in answer.json()["error"]["message"]


def test_an_index_of_another_encoder_is_refused(sources: Sources, tmp_path: Path) -> None:
    other = write_sources(tmp_path, seed=1)
    mixed = Sources(other.encoder_uri, sources.index_uri)
    with pytest.raises(ValueError, match="their vectors do not mix"):
        Service(mixed.config())


def test_a_dataset_that_was_not_indexed_is_refused(sources: Sources) -> None:
    mixed = Sources(sources.encoder_uri, sources.index_uri, dataset_uri=sources.encoder_uri)
    with pytest.raises(ValueError, match="name the dataset that was indexed"):
        Service(mixed.config())


@pytest.mark.parametrize("name", ["encoder/model.onnx", "index/index.faiss", "dataset/corpus.arrow"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    sources = write_sources(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: content differs"):
        Service(sources.config())


def test_a_queue_that_is_too_small_for_one_text_is_refused_at_start(sources: Sources) -> None:
    with pytest.raises(ValueError, match="less than one text of this encoder"):
        Service(sources.config(max_queued_tokens=63))
