"""The precision of a local LLM's weights: asked for, settled by the journal, or measured when the LLM is opened.

`auto` stands in a step's identity as it was asked for, because no one who asks whether a step is done can measure. What
it turned out to be belongs to the journal: the first job that opens the LLM over it measures and leaves a file beside
the calls, and every later attempt, shard, task and run over that journal takes the same, on whatever machine. It is
also part of the model's name in every key and in every label, so that no answer in one precision is ever taken for one
in the other; train refuses shards that differ in it. A journal that holds calls from before `auto` was asked for does
not know their precision: where bf16 wins, they are made again.

bf16 wins where the processor computes in it, the log-likelihoods of a few prompts stay near those of fp32, and it is
faster by a margin.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from components.shared import log
from components.shared.durable import storage
from components.shared.encoding.engines import processor
from components.shared.engines.config import WeightPrecision
from components.shared.engines.engine import Engine, Likelihood, LikelihoodRequest
from components.shared.hashing import content_key
from components.shared.roles import hint

AUTO = "auto"
# Nats that a token's log-likelihood may differ from fp32, and the mean over a continuation, by which labels go: a
# tenth of the default ignore_margin.
MOST_TOKEN_NATS, MOST_MEAN_NATS = 0.25, 0.03
# bf16 must be this much faster in the median pair of rounds; fp32 wins ties.
WORTH = 1.1
_SECONDS, _FEWEST_ROUNDS = 1.0, 4
# Where it is not faster in any of so many rounds nothing more is measured.
_HOPELESS_ROUNDS = 2

_PASSAGES = (
    "Tides rise and fall twice a day because the moon pulls on the sea. When sun and moon stand in one line the water "
    "rises highest, which sailors call a spring tide, although it comes in every season.",
    "The 1923 report counted 48,210 ships in 17 harbours. Of these 61 % were made of wood, 38.5 % of iron, and the "
    "rest, mostly barges on the river, of both; the tables on page 112 give their tonnage by year.",
    "To read a file line by line, open it in a with block and loop over the object: for line in file: print(line). "
    "The block closes the file even where an exception is raised inside it, so no finally clause is needed.",
    "Patients who received the drug had lower blood pressure after twelve weeks than those who received a placebo, but "
    "the difference was not significant once age, weight and smoking were accounted for.",
)
_QUESTIONS = (
    "why is the water in a harbour high twice a day?",
    "how many ships were made of iron in 1923",
    "python read file without loading all of it into memory",
    "does the drug lower blood pressure compared with placebo?",
)


@dataclass(frozen=True)
class Settled:
    """A precision, why it is that one, and what was measured where anything was.

    `tokens_per_second`: of prompts, by precision. `token_nats` and `mean_nats`: the largest difference of bf16 from
    fp32 in the log-likelihood of a token, and in the mean over a continuation.
    """

    precision: WeightPrecision
    reason: str
    processor: str
    tokens_per_second: dict[str, float] | None = None
    token_nats: float | None = None
    mean_nats: float | None = None


def settled(llm_uri: str, *, revision: str, batch_tokens: int, journal_uri: str) -> Settled:
    """What auto means for this LLM over this journal; measured, and left beside the calls, where nobody did before.

    Raises:
        ValueError: Where the LLM cannot be loaded.
    """
    chosen = kept(llm_uri, revision=revision, journal_uri=journal_uri) if journal_uri else None
    if chosen is not None:
        _warn_where_slow(chosen)
        return chosen
    chosen = measured(llm_uri, revision=revision, batch_tokens=batch_tokens)
    log.event("precision of the LLM", **asdict(chosen))
    if journal_uri:
        storage.write_bytes(_path(llm_uri, revision, journal_uri), orjson.dumps(asdict(chosen)))
        # Another shard may have written at the same moment: what lies there now is what all go by.
        return kept(llm_uri, revision=revision, journal_uri=journal_uri) or chosen
    return chosen


def kept(llm_uri: str, *, revision: str, journal_uri: str) -> Settled | None:
    """What auto means for this LLM over this journal; None where no job has settled it."""
    path = _path(llm_uri, revision, journal_uri)
    return Settled(**orjson.loads(storage.read_bytes(path))) if storage.exists(path) else None


def _path(llm_uri: str, revision: str, journal_uri: str) -> str:
    model = content_key(storage.content_digest(llm_uri), revision)[:16]
    return f"{journal_uri.rstrip('/')}/precision-{model}.json"


def _warn_where_slow(chosen: Settled) -> None:
    if chosen.precision == "bf16" and not processor.computes_bf16():
        log.warning(
            "this journal's calls were made in bf16 on another machine, and go on in it, slowly here; "
            f"{hint('llm_precision', 'fp32')} makes them again in fp32",
            made_on=chosen.processor,
            here=processor.described(),
        )


def measured(llm_uri: str, *, revision: str, batch_tokens: int) -> Settled:
    """The precision that is right for this LLM on this machine."""
    here = processor.described()
    if not processor.computes_bf16():
        return Settled("fp32", f"bf16 is emulated here ({here})", here)
    from components.shared.engines.transformers import TransformersEngine

    fp32 = TransformersEngine(llm_uri, batch_tokens=batch_tokens, revision=revision)
    bf16 = TransformersEngine(llm_uri, batch_tokens=batch_tokens, revision=revision, precision="bf16")
    expected, got = weighed(fp32), weighed(bf16)
    token_nats, mean_nats = differences([row.logprobs for row in expected], [row.logprobs for row in got])
    pairs = _timed(fp32, bf16)
    num_tokens = len(pairs) * sum(row.prompt_tokens for row in expected)
    speeds = {
        name: round(num_tokens / sum(seconds), 1)
        for name, seconds in zip(("fp32", "bf16"), zip(*pairs, strict=True), strict=True)
    }
    ratio = statistics.median(one / other for one, other in pairs)
    precision, reason = verdict(ratio, token_nats, mean_nats)
    return Settled(precision, reason, here, speeds, round(token_nats, 4), round(mean_nats, 4))


def verdict(ratio: float, token_nats: float, mean_nats: float) -> tuple[WeightPrecision, str]:
    """The precision that was earned: `ratio` is how much faster bf16 was, the others are its differences from fp32."""
    if not (token_nats <= MOST_TOKEN_NATS and mean_nats <= MOST_MEAN_NATS):
        return "fp32", (
            f"bf16 moved a token's log-likelihood by {token_nats:.3f} nats and a mean by {mean_nats:.3f}; at most "
            f"{MOST_TOKEN_NATS} and {MOST_MEAN_NATS} are allowed"
        )
    said = f"bf16 was {ratio:.2f} times as fast as fp32, with log-likelihoods within {token_nats:.3f} nats"
    return ("bf16", said) if ratio >= WORTH else ("fp32", f"{said}, and takes its place from {WORTH} times on")


def differences(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The largest difference of a token, and of the mean over a continuation, between rows of log-likelihoods."""
    pairs = list(zip(ours, theirs, strict=True))
    of_tokens = max(abs(one - other) for row, theirs_row in pairs for one, other in zip(row, theirs_row, strict=True))
    return of_tokens, max(abs(statistics.fmean(row) - statistics.fmean(other)) for row, other in pairs)


def _requests() -> list[LikelihoodRequest]:
    return [
        LikelihoodRequest(f"{number}", f"Passage: {passage}\nQuestion:", f" {question}")
        for number, (passage, question) in enumerate(
            (passage, _QUESTIONS[(first + shift) % len(_QUESTIONS)])
            for first, passage in enumerate(_PASSAGES)
            for shift in (0, 1)
        )
    ]


def weighed(engine: Engine) -> list[Likelihood]:
    """The likelihoods of the prompts that decide, in their order."""
    for request in _requests():
        engine.submit(request)
    results: dict[str, Likelihood] = {}
    while batch := engine.collect():
        results |= {result.key: result for result in batch if isinstance(result, Likelihood)}
    return [results[request.key] for request in _requests()]


def _timed(fp32: Engine, bf16: Engine) -> list[tuple[float, float]]:
    """Seconds of whole rounds over the prompts in fp32 and in bf16, in turns; both are warm."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < _FEWEST_ROUNDS or sum(map(sum, pairs)) < _SECONDS:
        if len(pairs) % 2:
            last = _seconds(bf16)
            pairs.append((_seconds(fp32), last))
        else:
            pairs.append((_seconds(fp32), _seconds(bf16)))
        if len(pairs) == _HOPELESS_ROUNDS and all(other >= one for one, other in pairs):
            break
    return pairs


def _seconds(engine: Engine) -> float:
    start = time.perf_counter()
    weighed(engine)
    return time.perf_counter() - start
