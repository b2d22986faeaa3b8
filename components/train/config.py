"""Settings of train; the curriculum itself is YAML, see curriculum.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_CURRICULUM = """
- {name: llm, labels: llm, loss: disj_infonce, positives: all, epochs: 2, learning_rate: 3.0e-5}
- {name: human, labels: human, human_share: 0.2, loss: disj_infonce, positives: one, epochs: 1, learning_rate: 3.0e-5}
"""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Annotations and a share of the human labels -> checkpoint of a dual encoder."""

    dataset_uri: str
    """Dataset of prepare."""
    annotations_uri: str
    """Annotations of annotate; several shards separated by commas."""
    base_uri: str
    """Model to start from: a checkpoint, a Hugging Face or sentence-transformers folder, or a name on the hub."""
    output_uri: str
    """Where the checkpoint goes."""
    state_uri: str = ""
    """Durable folder for the state that a killed job resumes from (gs:// where pods are preempted). Empty: beside the
    output."""
    curriculum: str = DEFAULT_CURRICULUM
    """Stages as YAML, in order; the default is the paper's 20 % curriculum."""
    max_quarantine_share: float = 0.2
    """Share of the annotated queries that may be in quarantine before training is refused: the rest is no fair sample
    of the queries."""
    pooling: Literal["auto", "cls", "mean", "last"] = "auto"
    """auto: what the model folder says, else last (token) for a decoder and mean for others."""
    normalise: Literal["auto", "yes", "no"] = "auto"
    """Unit-length vectors; auto: what the model folder says, else no."""
    query_prefix: str = ""
    """Put before each query."""
    passage_prefix: str = ""
    """Put before each passage."""
    query_tokens: int = 32
    """Longest query, special tokens included."""
    passage_tokens: int = 140
    """Longest passage, special tokens included."""
    batch_queries: int = 16
    """Training groups in one step, over all processes; each is a negative of all others."""
    group_size: int = 16
    """Passages in a training group: its positives and its hard negatives."""
    denominators: Literal["all_labels", "own_labels"] = "all_labels"
    """Whose positives are no negatives of a query: everybody's, or those of the stage's labels only (to measure the
    LLM's alone)."""
    loss_temperature: float = 1.0
    """Divides the scores in the loss; 1.0 for inner products, about 0.05 for unit vectors."""
    warmup_share: float = 0.1
    """Share of a stage's steps in which the learning rate rises from 0; then it falls linearly to 0."""
    weight_decay: float = 0.01
    """Of AdamW; biases and layer norms are left out."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast on a GPU, the loss stays fp32. On a CPU without bf16 units it is many times slower."""
    encode_rows: int = 16
    """Texts encoded together; they are sorted by length first, which on a CPU halves a step's time. Several hundred on
    a GPU."""
    held_rows: int = 0
    """Texts whose activations one process holds for the backward pass; the others are encoded twice (GradCache). 0:
    all."""
    gradient_checkpointing: Literal["no", "yes"] = "no"
    """Keep the activations between layers only: for single texts that are too long for the memory; a third slower."""
    lora_rank: int = 0
    """Rank of LoRA adapters on all linear layers, merged into the checkpoint at the end; 0: all weights are trained."""
    lora_scale: float = 2.0
    """The adapters' output is multiplied by this (alpha / rank)."""
    num_processes: int = 0
    """Processes on this machine that share each step; 0: one a GPU, one without. Under torchrun its environment
    decides."""
    evaluations_per_epoch: int = 1
    """Dev nDCG@10 measured this often in an epoch, and at its end; the best weights are kept."""
    dev_queries: int = 100
    """Dev queries measured (seeded draw)."""
    dev_passages: int = 1000
    """Passages they search: those judged for them, those that BM25 ranks first for them, then a seeded draw."""
    dev_human_share: float = -1.0
    """Share of the human-labelled dev queries whose labels may choose the best weights, from 0 to 1. Negative: the
    largest human_share of the curriculum's stages, so that a run with a fifth of the human labels knows a fifth of
    these too, and a run with none chooses by the LLM's labels or keeps its last weights."""
    checkpoint_steps: int = 50
    """Steps between two states that a killed job resumes from; one is also written after each evaluation."""
    tensorboard: Literal["no", "yes"] = "no"
    """Also write the metrics for TensorBoard, into logs/tensorboard of the checkpoint."""
    seed: int = 42
    """Of dropout, order, and the choice of positives and negatives."""
