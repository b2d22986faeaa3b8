"""Time to decode and check the body of a search and of 32 passages to embed.

Run: python tests/benchmarks/bench_bodies.py
"""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # `python tests/benchmarks/...` puts this folder there, not the root

from components.serve.protocols.bodies import EmbeddingsBody, Limits, SearchBody
from components.serve.protocols.decoding import Decoder, check_text, check_texts

LIMITS = Limits(max_texts=256, max_depth=1000, max_filter_ids=1000)
QUERY = "how are spans recorded in the telemetry library of the service"
PASSAGE = "The volcano erupts when magma rises through a vent; lava and ash come out. " * 6


def microseconds(call: Callable[[], object], number: int) -> float:
    """Of one call, in the fastest of seven rounds."""
    return min(timeit.repeat(call, number=number, repeat=7)) / number * 1e6


def main() -> None:
    search, embeddings = Decoder(SearchBody, LIMITS), Decoder(EmbeddingsBody, LIMITS)
    one = json.dumps({"query": QUERY, "truncate": True}).encode()
    fields = {"input": [PASSAGE] * 32, "input_type": "passage", "encoding_format": "base64", "truncate": True}
    many = json.dumps(fields).encode()
    with_nulls = json.dumps({**fields, "encoding_format": None}).encode()

    def embed(body: bytes) -> None:
        check_texts("input", [text for text in embeddings.decode(body).input if isinstance(text, str)])

    print(f"/search: {microseconds(lambda: check_text('query', search.decode(one).query), 20000):.2f} us")
    print(f"/v1/embeddings, 32 passages: {microseconds(lambda: embed(many), 5000):.1f} us")
    print(f"/v1/embeddings, 32 passages and a null field: {microseconds(lambda: embed(with_nulls), 5000):.1f} us")


if __name__ == "__main__":
    main()
