"""train as a Kubeflow component; the annotations are the list of all shards."""

from kfp import dsl

from components.images import all_paths, container
from components.train.config import DEFAULT_CURRICULUM


@dsl.container_component
def train(
    dataset: dsl.Input[dsl.Dataset],
    annotations: dsl.Input[list[dsl.Artifact]],
    base_uri: str,
    checkpoint: dsl.Output[dsl.Model],
    state_uri: str = "",
    curriculum: str = DEFAULT_CURRICULUM,
    max_quarantine_share: float = 0.2,
    pooling: str = "auto",
    normalise: str = "auto",
    query_prefix: str = "",
    passage_prefix: str = "",
    query_tokens: int = 32,
    passage_tokens: int = 140,
    batch_queries: int = 16,
    group_size: int = 16,
    denominators: str = "all_labels",
    loss_temperature: float = 1.0,
    warmup_share: float = 0.1,
    weight_decay: float = 0.01,
    max_gradient_norm: float = 1.0,
    precision: str = "fp32",
    encode_rows: int = 16,
    evaluations_per_epoch: int = 1,
    dev_queries: int = 100,
    dev_passages: int = 1000,
    checkpoint_steps: int = 50,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Annotations and a share of the human labels -> checkpoint of a dual encoder."""
    return container(
        "train",
        dataset_uri=dataset.path,
        annotations_uri=all_paths(annotations),
        base_uri=base_uri,
        output_uri=checkpoint.path,
        state_uri=state_uri,
        curriculum=curriculum,
        max_quarantine_share=max_quarantine_share,
        pooling=pooling,
        normalise=normalise,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        query_tokens=query_tokens,
        passage_tokens=passage_tokens,
        batch_queries=batch_queries,
        group_size=group_size,
        denominators=denominators,
        loss_temperature=loss_temperature,
        warmup_share=warmup_share,
        weight_decay=weight_decay,
        max_gradient_norm=max_gradient_norm,
        precision=precision,
        encode_rows=encode_rows,
        evaluations_per_epoch=evaluations_per_epoch,
        dev_queries=dev_queries,
        dev_passages=dev_passages,
        checkpoint_steps=checkpoint_steps,
        seed=seed,
    )
