"""The precision that a run trains in: the one asked for, else the one it began in, else the faster one, measured.

`auto` stands in the step's identity as it was asked for. What it turns out to be cannot stand there: whoever asks
whether a step is done, a runner on another machine or Kubeflow's cache, knows neither the processor nor its speed. So
the choice belongs to the run: it is written beside the run's states, under its identity, before anything is computed in
it, and every state says it too. An attempt that goes on, also on a machine that would choose otherwise, trains on in
the precision that was begun in; weights, a teacher's vectors and trials of kappa never mix two. The finished checkpoint
names it in its manifest, and its digest, not the word auto, is what the steps behind it depend on. Who wants another
precision asks for it by name, which is another identity with states of its own.

The processor's flags, or the GPU, say whether bf16 is worth a try; then forward and backward passes over slices of the
run's own first batch are timed in turns. Weights, losses, dev measures and the export are fp32 in any case.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeAlias

import orjson
import torch

from components.shared import log
from components.shared.checkpoint import DualEncoder
from components.shared.durable import storage
from components.shared.encoding.engines import processor
from components.shared.roles import hint
from components.train.labels.data import batches, num_batches
from components.train.loop.gradients import Slice, encode_slice, step_slices
from components.train.loop.model import base_model
from components.train.loop.processes import Processes
from components.train.material import Material

Precision: TypeAlias = Literal["fp32", "bf16"]

# bf16 must be this much faster in the median pair, and faster at all in three pairs of four: runs that are alike should
# not change places, and fp32 wins ties.
WORTH, _SURE_SHARE = 1.1, 0.75
# The measurement costs what one to three steps cost.
FEWEST_STEPS = 30
# Short, middle and long slices of the first batch; seconds of the timed passes together, after one of each to warm up.
_NUM_SLICES, _FEWEST_ROUNDS, _SECONDS = 4, 3, 2.0


@dataclass(frozen=True)
class Chosen:
    """A run's precision, why it is that one, and how fast both were (tokens/s of passes forward and backward)."""

    precision: Precision
    reason: str
    tokens_per_second: dict[str, float]
    processor: str

    def as_metrics(self) -> dict[str, object]:
        """For the manifest."""
        values = asdict(self)
        return {"training_precision": values.pop("precision"), "training_precision_choice": values}


def with_precision(material: Material, processes: Processes, *, place: str) -> tuple[Material, Chosen]:
    """The material with the precision that its run trains in, the same in every process, and how it was chosen.

    Args:
        material: What is learnt from; its config may say auto.
        processes: Who shares the work; the first one chooses while the others wait.
        place: Address in front of the run's states, in the first process.
    """
    content = processes.from_first(_kept_or_chosen(material, processes, place) if processes.is_first else None)
    assert content is not None
    chosen = Chosen(**orjson.loads(content))
    return replace(material, config=replace(material.config, precision=chosen.precision)), chosen


def _kept_or_chosen(material: Material, processes: Processes, place: str) -> bytes:
    asked = material.config.precision
    if asked != "auto":
        return _packed(Chosen(asked, "asked for", {}, _described(processes.device)))
    path = f"{place}-precision.json"
    if storage.exists(path):
        content = storage.read_bytes(path)
        _tell(Chosen(**orjson.loads(content)), processes.device, begun=True)
        return content
    chosen = choose(material, processes.device)
    content = _packed(chosen)
    storage.write_bytes(path, content)
    _tell(chosen, processes.device, begun=False)
    return content


def _packed(chosen: Chosen) -> bytes:
    return orjson.dumps(asdict(chosen))


def _tell(chosen: Chosen, device: torch.device, *, begun: bool) -> None:
    if begun and not is_worth_a_try(chosen.precision, device):
        log.warning(
            f"the run began in {chosen.precision} on another machine and goes on in it, slowly here; "
            f"{hint('precision', 'fp32')} starts anew",
            began_on=chosen.processor,
            here=_described(device),
        )
    log.event(
        "precision of training",
        precision=chosen.precision,
        reason="the run began in it" if begun else chosen.reason,
        tokens_per_second=chosen.tokens_per_second,
        processor=chosen.processor,
    )


def choose(material: Material, device: torch.device) -> Chosen:
    """The precision for a run that has not begun; bf16 is measured where there is anything to win."""
    config, described = material.config, _described(device)
    num_steps = sum(stage.epochs * num_batches(len(groups), config.batch_queries) for stage, groups in material.staged)
    if not is_worth_a_try("bf16", device):
        return Chosen("fp32", f"bf16 is emulated here ({described})", {}, described)
    if num_steps < FEWEST_STEPS:
        return Chosen("fp32", f"fewer than {FEWEST_STEPS} steps are not worth a measurement", {}, described)
    # Of the process's own, so that the run draws what it would draw without a measurement.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = base_model(config).to(device).train()
        slices = _spread(_first_slices(material, model))
        pairs = timed_pairs(model, slices)
    num_tokens = sum(sum(map(len, slices[number % len(slices)].token_ids)) for number in range(len(pairs)))
    speeds = {
        name: round(num_tokens / max(sum(seconds), 1e-9), 1)
        for name, seconds in zip(("fp32", "bf16"), zip(*pairs, strict=True), strict=True)
    }
    return Chosen(*verdict(pairs), speeds, described)


def is_worth_a_try(precision: Precision, device: torch.device) -> bool:
    """Whether a device computes in a precision itself; any other one emulates it."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return processor.computes_bf16()


def verdict(pairs: Sequence[tuple[float, float]]) -> tuple[Precision, str]:
    """The precision that pairs of seconds (fp32, bf16) of the same work speak for, and the reason in words."""
    ratios = sorted(fp32 / max(bf16, 1e-9) for fp32, bf16 in pairs)
    ratio, share = statistics.median(ratios), sum(ratio > 1 for ratio in ratios) / len(ratios)
    said = f"bf16 was {ratio:.2f} times as fast as fp32 (median of {len(ratios)} pairs)"
    if ratio >= WORTH and share >= _SURE_SHARE:
        return "bf16", said
    return "fp32", f"{said}, and takes its place from {WORTH} times on, faster in {_SURE_SHARE:.0%} of the pairs"


def timed_pairs(model: DualEncoder, slices: Sequence[Slice]) -> list[tuple[float, float]]:
    """Seconds of a pass forward and backward over each slice in turn, in fp32 and in bf16, until enough is known.

    The two of a pair stand side by side and change places from pair to pair, so that what else the machine does meets
    both. The model's weights stay as they are, its gradients are dropped.
    """
    names: tuple[Precision, ...] = ("fp32", "bf16")
    for name in names:
        _seconds(model, slices[0], name)
    pairs: list[tuple[float, float]] = []
    while len(pairs) < _FEWEST_ROUNDS * len(slices) or sum(map(sum, pairs)) < _SECONDS:
        piece = slices[len(pairs) % len(slices)]
        spent = {name: _seconds(model, piece, name) for name in names[:: 1 if len(pairs) % 2 else -1]}
        pairs.append((spent["fp32"], spent["bf16"]))
        # Not faster with any of the slices: nothing more is measured.
        if len(pairs) == len(slices) and all(bf16 >= fp32 for fp32, bf16 in pairs):
            break
    model.zero_grad(set_to_none=True)
    return pairs


def _seconds(model: DualEncoder, piece: Slice, precision: Precision) -> float:
    start = time.perf_counter()
    vectors = encode_slice(model, piece, precision)
    torch.autograd.backward(vectors, torch.ones_like(vectors))
    if vectors.device.type == "cuda":
        torch.cuda.synchronize(vectors.device)
    return time.perf_counter() - start


def _first_slices(material: Material, model: DualEncoder) -> list[Slice]:
    config, (stage, groups) = material.config, material.staged[0]
    batch = next(
        batches(
            groups,
            material.dataset,
            stage=stage,
            epoch=0,
            batch_queries=config.batch_queries,
            group_size=config.group_size,
            seed=config.seed,
        )
    )
    queries = model.tokenize_queries(batch.queries)
    passages = model.tokenize_passages(batch.passages, max_tokens=config.train_passage_tokens)
    return step_slices(queries, passages, encode_rows=config.encode_rows, seed=config.seed, step=0)


def _spread(slices: Sequence[Slice]) -> list[Slice]:
    """A few slices from the shortest to the longest, evenly spread over the batch's own."""
    ordered = sorted(slices, key=lambda piece: sum(map(len, piece.token_ids)))
    count = min(_NUM_SLICES, len(ordered))
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def _described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor.described()
