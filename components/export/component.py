"""export as Kubeflow components: of the base model, named by a string, and of a checkpoint of train."""

from kfp import dsl

from components.images import container


@dsl.container_component
def export_base(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint_uri: str,
    encoder: dsl.Output[dsl.Model],
    pooling: str = "auto",
    normalise: str = "auto",
    query_prefix: str = "",
    passage_prefix: str = "",
    query_tokens: int = 32,
    passage_tokens: int = 140,
    opset: int = 18,
    variants: str = "fp32",
    triton: str = "no",
    max_difference: float = 1e-5,
    min_cosine: float = 0.98,
    min_overlap: float = 0.8,
    min_batch_cosine: float = 0.999,
    max_drift: float = 0.01,
    drift_queries: int = 200,
    drift_passages: int = 2000,
    num_parity_texts: int = 64,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """A model on the hub or in a folder -> encoder; how it pools and what it reads are given, or taken from its folder."""
    return container(
        "export",
        dataset_uri=dataset.path,
        checkpoint_uri=checkpoint_uri,
        output_uri=encoder.path,
        pooling=pooling,
        normalise=normalise,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        query_tokens=query_tokens,
        passage_tokens=passage_tokens,
        opset=opset,
        variants=variants,
        triton=triton,
        max_difference=max_difference,
        min_cosine=min_cosine,
        min_overlap=min_overlap,
        min_batch_cosine=min_batch_cosine,
        max_drift=max_drift,
        drift_queries=drift_queries,
        drift_passages=drift_passages,
        num_parity_texts=num_parity_texts,
        seed=seed,
    )


@dsl.container_component
def export_checkpoint(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    encoder: dsl.Output[dsl.Model],
    opset: int = 18,
    variants: str = "fp32",
    triton: str = "no",
    max_difference: float = 1e-5,
    min_cosine: float = 0.98,
    min_overlap: float = 0.8,
    min_batch_cosine: float = 0.999,
    max_drift: float = 0.01,
    drift_queries: int = 200,
    drift_passages: int = 2000,
    num_parity_texts: int = 64,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Checkpoint of train -> encoder; pooling, prefixes and lengths are those it was trained with."""
    return container(
        "export",
        dataset_uri=dataset.path,
        checkpoint_uri=checkpoint.path,
        output_uri=encoder.path,
        opset=opset,
        variants=variants,
        triton=triton,
        max_difference=max_difference,
        min_cosine=min_cosine,
        min_overlap=min_overlap,
        min_batch_cosine=min_batch_cosine,
        max_drift=max_drift,
        drift_queries=drift_queries,
        drift_passages=drift_passages,
        num_parity_texts=num_parity_texts,
        seed=seed,
    )
