"""The packages that people ask such a server with, each against the running server: vectors equal the encoder's own."""

import asyncio
import contextlib
import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from components.serve.protocols.bodies import InputType
from components.shared.encoding.encoder import Encoder
from tests.components.serve.served import Process, Sources

TEXTS = ["the danger of a volcano", "a violin told in plain words", "Beehive: \u00fcnknown \U0001f41d"]
KEY = "a key that nobody checks"
# What the packages warn of is theirs; a wrong vector still fails.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def url(prefixed_sources: Sources) -> Iterator[str]:
    server = Process(*prefixed_sources.flags(), "--num-sessions=1", "--max-texts=64")
    yield server.url
    server.terminate()
    assert server.exit_code() == 0
    assert not [line for line in server.lines if line["level"] == "error"]


@pytest.fixture(scope="module", autouse=True)
def no_event_loop_stays() -> Iterator[None]:
    """LiteLLM opens an event loop in this thread and leaves it; collected later, it would be another test's fault."""
    yield
    policy = asyncio.get_event_loop_policy()
    # Where `asyncio.run` came after LiteLLM's loop, or no test of this worker opened one, there is none left to close.
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        policy.get_event_loop().close()
    policy.set_event_loop(None)


@functools.cache
def encoder_of(folder: str) -> Encoder:
    return Encoder(Path(folder), num_threads=1)


@pytest.fixture
def expected(prefixed_sources: Sources) -> Any:
    encoder = encoder_of(prefixed_sources.encoder_uri)

    def vectors(texts: Sequence[str], input_type: InputType) -> np.ndarray:
        tokenize = encoder.tokenize_queries if input_type == "query" else encoder.tokenize_passages
        return encoder.encode_tokens(tokenize(texts))

    assert np.abs(vectors(TEXTS, "query") - vectors(TEXTS, "passage")).max() > 0.01
    return vectors


@pytest.fixture
def openai_client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("settings", [{}, {"encoding_format": "float"}, {"dimensions": 32, "user": "somebody"}])
def test_openai_gets_queries_and_passages_by_the_models_name(
    openai_client: openai.OpenAI, expected: Any, settings: dict[str, Any]
) -> None:
    names: dict[str, InputType] = {"encoder": "query", "encoder-query": "query", "encoder-passage": "passage"}
    for name, input_type in names.items():
        answer = openai_client.embeddings.create(model=name, input=TEXTS, **settings)
        assert np.array([row.embedding for row in answer.data]) == pytest.approx(expected(TEXTS, input_type), abs=1e-6)
        assert answer.model == f"encoder-{input_type}"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0


def test_openai_lists_the_models_and_is_told_of_an_unknown_one(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == ["encoder", "encoder-query", "encoder-passage"]
    passage = openai_client.models.retrieve("encoder-passage").to_dict()
    assert (passage["input_type"], passage["dimension"], passage["max_tokens"]) == ("passage", 32, 64)
    assert "'written '" in str(passage["description"])
    with pytest.raises(openai.NotFoundError, match="this server has encoder, encoder-query, encoder-passage"):
        openai_client.embeddings.create(model="text-embedding-3-small", input="volcano")
    with pytest.raises(openai.NotFoundError, match="no such model"):
        openai_client.models.retrieve("gpt-4o")


def test_openai_sends_our_own_token_ids_where_it_names_the_encoder(
    openai_client: openai.OpenAI, expected: Any, prefixed_sources: Sources
) -> None:
    encoder = encoder_of(prefixed_sources.encoder_uri)
    token_ids = encoder.tokenize_passages(TEXTS)
    for given, texts in ((token_ids, TEXTS), (token_ids[0], TEXTS[:1])):
        answer = openai_client.embeddings.create(
            model="encoder-passage", input=given, extra_body={"tokens_of": encoder.digest}
        )
        assert np.array([row.embedding for row in answer.data]) == pytest.approx(expected(texts, "passage"), abs=1e-6)


def test_langchain_embeds_documents_and_queries_as_text(url: str, expected: Any) -> None:
    from langchain_openai import OpenAIEmbeddings

    settings: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": KEY, "check_embedding_ctx_length": False}
    passages = OpenAIEmbeddings(model="encoder-passage", **settings).embed_documents(TEXTS)
    query = OpenAIEmbeddings(model="encoder-query", **settings).embed_query(TEXTS[0])
    assert np.array(passages) == pytest.approx(expected(TEXTS, "passage"), abs=1e-6)
    assert np.array(query) == pytest.approx(expected(TEXTS[:1], "query")[0], abs=1e-6)


def test_langchains_default_sends_tokens_and_is_told_which_option_sends_text(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiktoken
    from langchain_openai import OpenAIEmbeddings

    # The vocabulary of OpenAI's models would be fetched from the network: bytes stand in for it.
    ranks = {bytes([number]): number for number in range(256)}
    vocabulary = tiktoken.Encoding("bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: vocabulary)
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: vocabulary)
    langchain = OpenAIEmbeddings(model="encoder-passage", base_url=f"{url}/v1", api_key=KEY)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        langchain.embed_documents(TEXTS)


def test_llama_index_embeds_texts_and_queries(url: str, expected: Any) -> None:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    settings: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": KEY, "embed_batch_size": 2}
    passages = OpenAILikeEmbedding(model_name="encoder-passage", **settings).get_text_embedding_batch(TEXTS)
    query = OpenAILikeEmbedding(model_name="encoder-query", **settings).get_query_embedding(TEXTS[0])
    assert np.array(passages) == pytest.approx(expected(TEXTS, "passage"), abs=1e-6)
    assert np.array(query) == pytest.approx(expected(TEXTS[:1], "query")[0], abs=1e-6)


def test_litellm_embeds_through_its_openai_provider(url: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    monkeypatch.setattr(litellm, "telemetry", False)
    for input_type in ("query", "passage"):
        answer = litellm.embedding(
            model=f"openai/encoder-{input_type}",
            input=TEXTS,
            api_base=f"{url}/v1",
            api_key=KEY,
            encoding_format="float",
        )
        vectors = np.array([row["embedding"] for row in answer.data])
        assert vectors == pytest.approx(expected(TEXTS, input_type), abs=1e-6)


@pytest.fixture
def triton(url: str) -> Iterator[Any]:
    import tritonclient.http

    with tritonclient.http.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


def triton_input(texts: Sequence[str], *shape: int, binary: bool) -> Any:
    import tritonclient.http

    tensor = tritonclient.http.InferInput("text", shape, "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object).reshape(shape), binary)
    return tensor


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("binary", [True, False])
def test_triton_gets_vectors_whatever_form_its_tensors_have(
    triton: Any, expected: Any, binary: bool, shape: tuple[int, ...], packed: str | None
) -> None:
    import tritonclient.http

    tensor = triton_input(TEXTS, *shape, binary=binary)
    outputs = [None, *([tritonclient.http.InferRequestedOutput("embedding", flag)] for flag in (True, False))]
    for output in outputs:
        for parameters in ({"input_type": "passage"}, None):
            answer = triton.infer(
                "encoder", [tensor], outputs=output, parameters=parameters, request_compression_algorithm=packed
            )
            input_type = "passage" if parameters else "query"
            assert answer.as_numpy("embedding") == pytest.approx(expected(TEXTS, input_type), abs=1e-6)
            assert answer.get_response()["model_name"] == f"encoder-{input_type}"


def test_triton_reads_health_metadata_and_configuration(triton: Any, expected: Any) -> None:
    from tritonclient.utils import InferenceServerException

    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("encoder-passage")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    (version,) = triton.get_model_metadata("encoder")["versions"]
    assert triton.is_model_ready("encoder", version)
    assert triton.get_model_config("encoder", version)["output"][0]["dims"] == [-1, 32]
    tensor = triton_input(TEXTS, 3, binary=True)
    answer = triton.infer("encoder-passage", [tensor], model_version=version, request_id="7")
    assert answer.as_numpy("embedding") == pytest.approx(expected(TEXTS, "passage"), abs=1e-6)
    assert answer.get_response()["id"] == "7"
    assert not triton.is_model_ready("encoder", "1")
    with pytest.raises(InferenceServerException, match=f"version {version} is served"):
        triton.infer("encoder", [tensor], model_version="1")
    with pytest.raises(InferenceServerException, match="contradicts the model's name 'encoder-query'"):
        triton.infer("encoder-query", [tensor], parameters={"input_type": "passage"})


# What InferRequest.to_rest of kserve 0.21.0 writes. The package itself wants older versions of python-dateutil and
# psutil than this environment has; installed in one of its own, its InferenceRESTClient was answered alike.
KSERVE_JSON = b"""{"id": "8561ffde-000b-4064-87b7-7021926c6508", "model_name": "encoder", "inputs": [
    {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": ["volcano", "a violin"]}]}"""
KSERVE_HEAD = (
    b'{"id":"3c5274fa-1849-4b41-96f9-2bdbba77d4e7","model_name":"encoder","inputs":[{"name":"text","shape":[2],'
    b'"datatype":"BYTES","parameters":{"binary_data_size":23}}],"parameters":{"input_type":"passage"}}'
)
KSERVE_BYTES = b"\x07\x00\x00\x00volcano\x08\x00\x00\x00a violin"


def test_kserves_recorded_requests_are_answered(url: str, expected: Any) -> None:
    plain = httpx.post(f"{url}/v2/models/encoder/infer", content=KSERVE_JSON).json()
    assert plain["id"] == "8561ffde-000b-4064-87b7-7021926c6508"
    (output,) = plain["outputs"]
    vectors = np.array(output["data"], np.float32).reshape(output["shape"])
    assert vectors == pytest.approx(expected(["volcano", "a violin"], "query"), abs=1e-6)
    headers = {"inference-header-content-length": str(len(KSERVE_HEAD)), "content-type": "application/octet-stream"}
    binary = httpx.post(f"{url}/v2/models/encoder/infer", content=KSERVE_HEAD + KSERVE_BYTES, headers=headers)
    (output,) = json.loads(binary.content)["outputs"]
    vectors = np.array(output["data"], np.float32).reshape(output["shape"])
    assert vectors == pytest.approx(expected(["volcano", "a violin"], "passage"), abs=1e-6)
