"""Settings of train; the curriculum itself is YAML, see curriculum.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.encoding.dual_encoder import DualEncoderConfig, contradictions
from components.shared.encoding.matryoshka import parse_weights
from components.shared.roles import INPUT, OPERATION, OUTPUT, PLACE, SETTING, above, at_least, at_most, below, refuse
from components.train.curriculum import parse_curriculum

# On one line: KFP writes defaults into a comment of the compiled file, where a second line breaks the file.
DEFAULT_CURRICULUM = (
    "[{name: llm, labels: llm, loss: disj_infonce, positives: all, epochs: 2, learning_rate: 3.0e-5}, "
    "{name: human, labels: human, human_share: 0.2, loss: disj_infonce, positives: one, epochs: 1, learning_rate: "
    "3.0e-5}]"
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DualEncoderConfig):
    """Annotations and a share of the human labels -> checkpoint of a dual encoder."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the checkpoint is written to."""
    annotations_uri: str = field(default="", metadata=INPUT)
    """Annotations that annotate wrote; several shards are separated by commas. Empty: no LLM judged anything, and no
    stage may learn from its labels."""
    pools_uri: str = field(default="", metadata=INPUT)
    """Pools that mine wrote: what a stage with a teacher learns from, and the hard negatives of human-labelled queries
    that no LLM judged; empty takes the annotated pools."""
    state_uri: str = field(default="", metadata=PLACE)
    """Durable folder for the state that a killed job resumes from (in a bucket where pods are preempted); empty puts it
    beside the output."""
    curriculum: str = field(default=DEFAULT_CURRICULUM, metadata=SETTING)
    """Stages as YAML, in order; the default is the paper's curriculum with 20 % of the human labels."""
    max_quarantine_share: float = field(default=0.2, metadata=SETTING | at_least(0) | at_most(1))
    """Share of the annotated queries that may be in quarantine before training is refused, because the rest is no fair
    sample."""
    batch_queries: int = field(default=16, metadata=SETTING | at_least(1))
    """Number of training groups in one step, over all processes; each is a negative of all others."""
    group_size: int = field(default=16, metadata=SETTING | at_least(2))
    """Number of passages in a training group: its positives and its hard negatives."""
    denominators: Literal["all_labels", "own_labels"] = field(default="all_labels", metadata=SETTING)
    """Whose positives are never a query's negatives: everybody's, or those of the stage's own labels only (to measure
    the LLM's alone)."""
    loss_temperature: float = field(default=1.0, metadata=SETTING | above(0))
    """Number that divides the scores in the loss: 1.0 for inner products, about 0.05 for unit vectors."""
    matryoshka_weights: str = field(default="", metadata=SETTING)
    """Weights in the loss of the whole vector and of each number of dimensions of encoder.matryoshka, from the largest,
    such as 1,0.5,0.5; empty weighs all alike. The loss is the weighted mean."""
    warmup_share: float = field(default=0.1, metadata=SETTING | at_least(0) | below(1))
    """Share of a stage's steps in which the learning rate rises from 0; then it falls linearly to 0."""
    weight_decay: float = field(default=0.01, metadata=SETTING | at_least(0))
    """Weight decay of AdamW; biases and layer norms are left out."""
    max_gradient_norm: float = field(default=1.0, metadata=SETTING | above(0))
    """Norm that larger gradients are scaled down to."""
    precision: Literal["auto", "fp32", "bf16"] = field(default="fp32", metadata=SETTING)
    """Precision in which texts are encoded while training; weights, loss and what is exported are fp32. auto takes bf16
    where the processor or GPU computes in it and it was at least 1.1 times as fast as fp32 in two measured seconds; the
    checkpoint's manifest says which was taken, and a run that is continued keeps it."""
    train_passage_tokens: int = field(default=0, metadata=SETTING | at_least(0))
    """Tokens that passages are cut to while training, to save time; the encoder reads passage_tokens all the same. 0
    does not cut them shorter."""
    dropout: Literal["model", "off"] = field(default="model", metadata=SETTING)
    """model keeps the dropout that the model's own folder says; off trains without, which suits a teacher's scores."""
    encode_rows: int = field(default=16, metadata=SETTING | at_least(1))
    """Number of texts encoded together; they are sorted by length first, which on a CPU halves a step's time. Several
    hundred on a GPU. Dropout is drawn for each such slice, so another number is another result."""
    held_rows: int = field(default=0, metadata=OPERATION | at_least(0))
    """Number of texts whose activations one process holds for the backward pass; the others are encoded twice
    (GradCache). 0 holds all."""
    gradient_checkpointing: Literal["no", "yes"] = field(default="no", metadata=OPERATION)
    """yes keeps only the activations between layers, for single texts that are too long for the memory; a step takes a
    third longer."""
    lora_rank: int = field(default=0, metadata=SETTING | at_least(0))
    """Rank of LoRA adapters on all linear layers, merged into the checkpoint at the end; 0 trains all weights."""
    lora_scale: float = field(default=2.0, metadata=SETTING | above(0))
    """Number that multiplies the adapters' output (alpha / rank)."""
    num_processes: int = field(default=0, metadata=OPERATION | at_least(0))
    """Number of processes on this machine that share each step; 0 starts one a GPU, and one where there is none. Under
    torchrun its environment decides."""
    evaluations_per_epoch: int = field(default=1, metadata=SETTING | at_least(1))
    """Number of times in an epoch that dev nDCG@10 is measured, the last at its end; the best weights are kept."""
    dev_queries: int = field(default=100, metadata=SETTING | at_least(0))
    """Number of dev queries measured (seeded draw)."""
    dev_passages: int = field(default=1000, metadata=SETTING | at_least(1))
    """Number of passages that the dev queries search: those judged for them, those that BM25 ranks first for them, then
    a seeded draw."""
    dev_human_share: float = field(default=-1.0, metadata=SETTING | at_most(1))
    """Share of the human-labelled dev queries whose labels may choose the best weights, from 0 to 1. A negative value
    takes the largest human_share of the curriculum's stages, so that a run with a fifth of the human labels knows a
    fifth of these too, and a run with none chooses by the LLM's labels or keeps its last weights."""
    mixing_shares: str = field(default="", metadata=SETTING)
    """Shares of the trained weights, separated by commas, such as 0.25,0.5,0.75: where training has raised dev nDCG@10,
    mixtures of the base model's weights and the trained ones are measured too, and the best is kept. Empty mixes
    nothing; the base model (0) and what was trained (1) always take part."""
    checkpoint_steps: int = field(default=50, metadata=OPERATION | at_least(1))
    """Number of steps between two states that a killed job resumes from; one is also written after each evaluation."""
    tensorboard: Literal["no", "yes"] = field(default="no", metadata=OPERATION)
    """yes also writes the metrics for TensorBoard, into logs/tensorboard of the checkpoint."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of dropout, order, and the choice of positives and negatives."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    @property
    def mixtures(self) -> tuple[float, ...]:
        """The numbers of mixing_shares."""
        return tuple(float(share) for share in self.mixing_shares.split(",") if share.strip())

    def _contradictions(self) -> Iterator[str]:
        try:
            parse_weights(self.matryoshka_weights)
        except ValueError as error:
            yield str(error)
        yield from contradictions(self)
        try:
            if not all(0 < share < 1 for share in self.mixtures):
                yield f"mixing_shares {self.mixing_shares!r}: a share must be above 0 and below 1"
        except ValueError:
            yield f"mixing_shares {self.mixing_shares!r}: numbers separated by commas are wanted, such as 0.25,0.5,0.75"
        try:
            parse_curriculum(self.curriculum)
        except ValueError as error:
            yield from str(error).splitlines()
        if self.normalise == "yes" and self.loss_temperature >= 0.5:
            yield (
                f"loss_temperature {self.loss_temperature}: scores of unit vectors lie between -1 and 1 and teach "
                "nothing at this "
                "temperature; use about 0.05, or normalise no"
            )
