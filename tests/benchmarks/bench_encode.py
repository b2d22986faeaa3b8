"""Encoding a corpus: the index job against sentence-transformers' encode and a bare ONNX Runtime loop.

Run: python tests/benchmarks/bench_encode.py [--num-passages 384] [--rounds 3] [--collection NAME] [--encoder FOLDER]

Same model, texts, maximum length and cores for all, from text to vectors, tokenising included. The passages are a
seeded draw of a collection (RETRIEVER_DATA names the folder of collections; without one they are made up, with lengths
like those of web passages). Every round runs all ways once in turn, so that a slower minute of the machine meets all
alike; ratios are medians over rounds. Needs sentence-transformers.

The bare loop is the best recipe known for one session: sorted by length, batches of 8, a session on all cores, nothing
else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from components.export.config import ExportConfig
from components.export.job import export
from components.shared.encoding.encoder import (
    GRAPH_NAME,
    INPUT_NAMES,
    OUTPUT_NAME,
    TOKENIZER_NAME,
    Encoder,
    num_cores,
)
from components.shared.encoding.engines import processor
from components.shared.encoding.engines.proof import open_maker
from components.shared.encoding.engines.records import REFERENCE, Maker, other_makers
from pipelines.packaged import find_encoder

_TOKENS, _BARE_BATCH = 256, 8
_OURS, _PEER = "onnxruntime fp32", "sentence-transformers"
# What is compared: each engine in each precision that is installed and that this processor is fast in.
_PRECISIONS = ("fp32", "bf16", "int8")
Way = Callable[[Sequence[str]], np.ndarray]


def main() -> None:
    """Prints passages per second of each way, the ratios, and what an engine or precision changes in the vectors."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--num-passages", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--collection", default="wiki-openqa")
    parser.add_argument(
        "--encoder", type=Path, help="all-MiniLM-L6-v2 exported with --variants fp32,int8; default: exported first"
    )
    arguments = parser.parse_args()
    texts = passages(arguments.collection, arguments.num_passages)
    with tempfile.TemporaryDirectory(prefix="bench-encode-") as folder:
        ways = make_ways(arguments.encoder or write_encoder(Path(folder) / "encoder"), arguments.batch_tokens)
        measure(ways, texts, arguments.rounds)


def write_encoder(folder: Path) -> Path:
    """The packaged model with its int8 graph; a parity check that is brief, because tests do the long one."""
    export(
        ExportConfig(
            checkpoint_uri=str(find_encoder()),
            output_uri=str(folder),
            query_tokens=_TOKENS,
            passage_tokens=_TOKENS,
            variants="fp32,int8",
            num_parity_texts=16,
        )
    )
    return folder


def make_ways(folder: Path, batch_tokens: int) -> dict[str, Way]:
    """Each way of encoding texts, loaded and ready."""
    encoders = {str(maker): open_maker(folder, maker, num_threads=1, num_streams=num_cores()) for maker in makers()}
    longest = encoders[_OURS].settings.passage_tokens
    # An environment that narrows OpenMP would narrow torch alone: the ONNX Runtime sessions are told their threads.
    torch.set_num_threads(num_cores())
    reference = SentenceTransformer(str(find_encoder()), device="cpu")
    reference.max_seq_length = longest

    def ours(encoder: Encoder) -> Way:
        return lambda texts: encoder.encode_tokens(
            encoder.tokenize_passages(texts), batch_tokens=batch_tokens, num_workers=num_cores()
        )

    return {
        "sentence-transformers": lambda texts: np.asarray(
            reference.encode(list(texts), batch_size=32, show_progress_bar=False)
        ),
        "bare ONNX Runtime": bare_loop(folder, longest),
        **{name: ours(encoder) for name, encoder in encoders.items()},
    }


def makers() -> list[Maker]:
    """The reference engine's makers, and those of the others that are here."""
    reference = [Maker(REFERENCE.name, name) for name in _PRECISIONS if name in REFERENCE.precisions]
    return reference + other_makers(frozenset({"fp32", "int8"}))


def bare_loop(folder: Path, longest: int) -> Way:
    """Tokenise, sort by length, pad batches of 8, run; written without any of our code."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    tokenizer.enable_truncation(longest)
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_cores()
    session = ort.InferenceSession(str(folder / GRAPH_NAME), options, providers=["CPUExecutionProvider"])

    def encode(texts: Sequence[str]) -> np.ndarray:
        token_ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(texts)), key=lambda row: -len(token_ids[row]))
        vectors = np.empty((len(texts), 384), dtype=np.float32)
        for first in range(0, len(texts), _BARE_BATCH):
            rows = order[first : first + _BARE_BATCH]
            ids = np.zeros((len(rows), len(token_ids[rows[0]])), dtype=np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, : len(token_ids[row])] = token_ids[row]
                mask[place, : len(token_ids[row])] = 1
            (vectors[rows],) = session.run([OUTPUT_NAME], dict(zip(INPUT_NAMES, (ids, mask), strict=True)))
        return vectors

    return encode


def measure(ways: dict[str, Way], texts: Sequence[str], rounds: int) -> None:
    """All ways in turn, round after round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, int] = {}
    vectors: dict[str, np.ndarray] = {}
    for way in ways.values():
        way(texts[:32])
    for number in range(rounds):
        # Turning the order around removes what a way owes to its predecessor.
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            start, cpu_start, before = time.perf_counter(), time.process_time(), resident_mib()
            vectors[name] = ways[name](texts)
            seconds[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
            memory[name] = max(memory.get(name, 0), resident_mib() - before)
    num_words = np.mean([len(text.split()) for text in texts])
    print(f"{len(texts)} passages of {num_words:.0f} words on average, {num_cores()} cores, {rounds} rounds")
    print(f"processor: {processor.described()}")
    print("  passages/s, CPU seconds, ratios of CPU seconds of onnxruntime fp32 and of sentence-transformers to them,")
    print("  cosine and top-10 overlap with sentence-transformers, memory that a round added")
    reference = vectors[_PEER]
    for name in ways:
        ratios = [ratio(cpu[against], cpu[name]) for against in (_OURS, _PEER)]
        cosine = ((vectors[name] * reference).sum(1) / np.linalg.norm(reference, axis=1)).mean()
        print(
            f"  {name:22} {len(texts) / np.median(seconds[name]):7.1f} {np.median(cpu[name]):7.2f} s "
            f"{ratios[0]:5.2f} x {ratios[1]:5.2f} x {cosine:.5f} {overlap_10(vectors[name], reference):.3f} "
            f"{memory[name]:5d} MiB"
        )
    print(f"  {_OURS} against {_PEER}, wall time: {ratio(seconds[_PEER], seconds[_OURS]):.2f} x")
    print(f"  peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over rounds of how much longer theirs took."""
    return float(np.median([one / other for one, other in zip(theirs, ours, strict=True)]))


def resident_mib() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def overlap_10(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of each passage's ten nearest others that both agree on."""
    best = [np.argsort(-(its @ its.T - 2 * np.eye(len(its))), axis=1)[:, :10] for its in (ours, theirs)]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*best, strict=True)]))


def passages(collection: str, num_passages: int) -> list[str]:
    """A seeded draw of a collection's passages, or made-up ones of like lengths."""
    random = np.random.default_rng(0)
    path = Path(os.environ.get("RETRIEVER_DATA", "")) / collection / "corpus.jsonl"
    if not path.is_file():
        words = np.array(
            [f"{a}{b}" for a in ("re", "in", "con", "pro") for b in ("trieve", "form", "sider", "duce", "volve")]
        )
        return [
            " ".join(random.choice(words, size=int(size)))
            for size in np.clip(random.lognormal(4.2, 0.5, num_passages), 10, 300)
        ]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [f"{rows[row]['title']} {rows[row]['text']}".strip() for row in random.permutation(len(rows))[:num_passages]]


if __name__ == "__main__":
    main()
