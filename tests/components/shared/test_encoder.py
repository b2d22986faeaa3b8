import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from components.shared.encoding.batches import length_sorted_batches
from components.shared.encoding.encoder import (
    GRAPH_NAME,
    SETTINGS_NAME,
    TOKENIZER_NAME,
    Encoder,
    NotFiniteError,
    encoder_digest,
    padded,
)
from components.shared.records import Passage
from tests.tiny_encoder import spoil_word, write_tiny_encoder_files

WORDS = ("apple", "pear", "plum", "red", "green", "blue", "query", "passage", ":")
PAD, UNK, CLS, SEP, APPLE, PEAR = range(6)


@pytest.fixture
def make_encoder(tmp_path: Path) -> Callable[..., Encoder]:
    def make(**settings: object) -> Encoder:
        write_tiny_encoder_files(tmp_path, 1, WORDS, **settings)  # type: ignore[arg-type]
        return Encoder(tmp_path, num_threads=1)

    return make


def test_vectors_come_back_in_the_order_of_the_texts(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    texts = ["apple", "red apple green apple plum", "", "pear", "blue " * 20]
    vectors = encoder.encode_queries(texts, batch_tokens=8)
    assert vectors.shape == (5, encoder.dimension)
    for text, vector in zip(texts, vectors, strict=True):
        assert vector == pytest.approx(encoder.encode_queries([text])[0], abs=1e-6)


def test_a_vector_is_the_normalised_mean_of_its_tokens(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(special_tokens="")
    apple, pear, both = encoder.encode_queries(["apple", "pear", "apple pear"])
    raw = np.random.default_rng(1).standard_normal((13, encoder.dimension)).astype(np.float32)
    mean = (raw[APPLE] + raw[PEAR]) / 2
    assert apple == pytest.approx(raw[APPLE] / np.linalg.norm(raw[APPLE]), abs=1e-6)
    assert pear == pytest.approx(raw[PEAR] / np.linalg.norm(raw[PEAR]), abs=1e-6)
    assert both == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 7, 64, 100_000])
def test_vectors_do_not_depend_on_the_batch(make_encoder: Callable[..., Encoder], batch_tokens: int) -> None:
    encoder = make_encoder()
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, size=generator.integers(0, 25))) for _ in range(40)]
    alone = np.concatenate([encoder.encode_queries([text]) for text in texts])
    assert np.abs(encoder.encode_queries(texts, batch_tokens=batch_tokens) - alone).max() < 1e-6


def test_threads_share_an_encoder(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    texts = [" ".join(WORDS[: number % 7 + 1]) for number in range(64)]
    expected = encoder.encode_queries(texts)
    with ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(lambda text: encoder.encode_queries([text])[0], texts))
    assert np.abs(np.stack(vectors) - expected).max() < 1e-6


def test_no_texts_have_no_vectors(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)


def test_special_tokens_frame_a_text_and_unknown_words_are_marked(make_encoder: Callable[..., Encoder]) -> None:
    assert make_encoder().tokenize_queries(["apple zzz pear", ""]) == [[CLS, APPLE, UNK, PEAR, SEP], [CLS, SEP]]


def test_queries_and_passages_have_their_own_prefix_and_length(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(query_prefix="query: ", passage_prefix="passage: ", query_tokens=5, passage_tokens=6)
    word = {name: number for number, name in enumerate(WORDS, start=4)}
    text = "apple pear plum red"
    assert encoder.tokenize_queries([text]) == [[CLS, word["query"], word[":"], APPLE, SEP]]
    assert encoder.tokenize_passages([text]) == [[CLS, word["passage"], word[":"], APPLE, PEAR, SEP]]


def test_a_passage_is_encoded_with_its_title(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    (vector,) = encoder.encode_passages([Passage("p", "red apple", "green pear")])
    assert vector == pytest.approx(encoder.encode_queries(["red apple green pear"])[0], abs=1e-6)


@pytest.mark.parametrize("template", ["[CLS] $A [SEP]", "[CLS] $A", "$A [SEP]", "$A", "$A [SEP] [SEP]"])
@pytest.mark.parametrize("max_tokens", [4, 7, 30])
def test_truncation_is_that_of_the_tokenizer_itself(
    make_encoder: Callable[..., Encoder], template: str, max_tokens: int, tmp_path: Path
) -> None:
    encoder = make_encoder(special_tokens=template, query_tokens=max_tokens)
    reference = Tokenizer.from_file(str(tmp_path / TOKENIZER_NAME))
    reference.enable_truncation(max_tokens)
    texts = ["apple", "red apple green", "apple pear plum red green blue " * 40, ""]
    assert encoder.tokenize_queries(texts) == [reference.encode(text).ids or [PAD] for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        " " * 50_000 + "apple pear",
        "z" * 50_000 + " apple pear",
        ("z" * 99 + " ") * 400 + "apple",
        "apple " * 50_000,
    ],
)
def test_an_overlong_text_has_the_tokens_of_its_beginning(
    make_encoder: Callable[..., Encoder], text: str, tmp_path: Path
) -> None:
    encoder = make_encoder(query_tokens=16)
    reference = Tokenizer.from_file(str(tmp_path / TOKENIZER_NAME))
    reference.enable_truncation(16)
    assert encoder.tokenize_queries([text]) == [reference.encode(text).ids]


def test_without_truncation_a_long_text_shows_by_its_number_of_tokens(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(query_tokens=16, passage_tokens=4)
    lengths = [
        len(ids) for ids in encoder.tokenize_queries(["apple", "apple " * 16, "apple " * 50_000], truncate=False)
    ]
    assert lengths[:2] == [3, 18]
    assert lengths[2] > 16
    assert [len(ids) for ids in encoder.tokenize_passages(["apple pear plum"], truncate=False)] == [5]


def test_a_text_without_any_token_has_a_vector_of_numbers(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(special_tokens="")
    vectors = encoder.encode_queries(["", "apple", "   "])
    assert np.isfinite(vectors).all()
    assert vectors[0] == pytest.approx(vectors[2])


def test_progress_adds_up_to_the_texts(make_encoder: Callable[..., Encoder]) -> None:
    finished: list[int] = []
    make_encoder().encode_passages(
        [Passage(str(n), "", "apple " * n) for n in range(20)], batch_tokens=30, on_batch=finished.append
    )
    assert sum(finished) == 20
    assert len(finished) > 1


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = padded([[5, 6, 7], [8]], pad_token_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_batches_hold_every_row_once_and_stay_within_their_size() -> None:
    lengths = [3, 50, 1, 7, 7, 2, 9, 30]
    batches = list(length_sorted_batches(lengths, 20))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    # 50 and 30 are longer than a batch and go alone, the longest first.
    assert batches[:2] == [[1], [7]]
    assert all(len(batch) * max(lengths[row] for row in batch) <= 20 for batch in batches[2:])


def test_the_digest_covers_graph_tokenizer_and_settings(tmp_path: Path) -> None:
    write_tiny_encoder_files(tmp_path, 1, WORDS)
    first = encoder_digest(tmp_path)
    assert Encoder(tmp_path).digest == first
    for name in ("model.onnx", "tokenizer.json", "encoder.json"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + b" ")
        assert encoder_digest(tmp_path) != first
        (tmp_path / name).write_bytes(content)
    assert encoder_digest(tmp_path) == first


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"dimension": 8}), json.dumps({"unknown": 1})])
def test_settings_that_are_not_an_encoders_are_refused(tmp_path: Path, content: str) -> None:
    write_tiny_encoder_files(tmp_path, 1, WORDS)
    (tmp_path / SETTINGS_NAME).write_text(content)
    with pytest.raises(ValueError, match=r"encoder\.json: not the settings of an encoder"):
        Encoder(tmp_path)


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder\.json: not the settings of an encoder.*export it again"):
        Encoder(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pooling", "meam"),
        ("query_prefix", "x"),
        ("passage_prefix", " "),
        ("query_tokens", 33),
        ("dimension", 33),
        ("normalise", False),
    ],
)
def test_settings_that_the_graph_was_not_exported_with_are_refused_by_name(
    make_encoder: Callable[..., Encoder], name: str, value: object, tmp_path: Path
) -> None:
    make_encoder()
    settings = json.loads((tmp_path / SETTINGS_NAME).read_text())
    (tmp_path / SETTINGS_NAME).write_text(json.dumps(settings | {name: value}))
    with pytest.raises(
        ValueError, match=rf"encoder.json: says {name} .*, the graph was exported with .*; their vectors do not mix"
    ):
        Encoder(tmp_path)


def test_a_variant_that_was_not_exported_is_refused(make_encoder: Callable[..., Encoder], tmp_path: Path) -> None:
    assert make_encoder().variant == "fp32"
    with pytest.raises(ValueError, match=r"no int8 graph; it has fp32; export it with --variants fp32,int8"):
        Encoder(tmp_path, variant="int8")


def test_threads_that_share_the_work_give_the_same_vectors(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    token_ids = encoder.tokenize_passages(["apple " * (number % 30) for number in range(200)])
    finished: list[int] = []
    shared = encoder.encode_tokens(token_ids, batch_tokens=64, num_workers=4, on_batch=finished.append)
    assert np.array_equal(shared, encoder.encode_tokens(token_ids, batch_tokens=64))
    assert sum(finished) == 200


def test_a_vector_that_is_no_number_is_refused_naming_the_text(
    make_encoder: Callable[..., Encoder], tmp_path: Path
) -> None:
    make_encoder()
    spoil_word(tmp_path, PEAR)
    encoder = Encoder(tmp_path, num_threads=1)
    texts = ["apple", "plum red", "a red pear", "green", "pear"]
    with pytest.raises(NotFiniteError, match=r"text 2 of 5: its vector is not finite") as caught:
        encoder.encode_queries(texts)
    assert caught.value.row == 2
    passages = [Passage(f"p{number}", "", text) for number, text in enumerate(texts)]
    with pytest.raises(ValueError, match=r"passage p2: its vector is not finite .*export it again"):
        encoder.encode_passages(passages, batch_tokens=1_000)
    with pytest.raises(NotFiniteError):
        encoder.encode_tokens(encoder.tokenize_passages(texts), num_workers=2, batch_tokens=4)
    assert np.isfinite(encoder.encode_queries(texts[:2])).all()


def test_a_damaged_graph_is_refused_by_name(make_encoder: Callable[..., Encoder], tmp_path: Path) -> None:
    make_encoder()
    content = (tmp_path / GRAPH_NAME).read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"not a graph at all"):
        (tmp_path / GRAPH_NAME).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model.onnx: (ONNX Runtime cannot read it|does not say how)"):
            Encoder(tmp_path)
    (tmp_path / GRAPH_NAME).unlink()
    with pytest.raises(ValueError, match=r"model.onnx: missing; .* not a whole encoder"):
        Encoder(tmp_path)
