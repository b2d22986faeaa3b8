"""index as a Kubeflow component."""

from kfp import dsl

from components.images import container


@dsl.container_component
def index(
    dataset: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    index: dsl.Output[dsl.Artifact],
    factory: str = "Flat",
    search_parameters: str = "",
    shard_passages: int = 16384,
    batch_tokens: int = 512,
    num_threads: int = 0,
    training_vectors: int = 262144,
    num_recall_queries: int = 256,
    min_recall: float = 0.95,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Encoder and corpus -> index, its recall measured and gated."""
    return container(
        "index",
        dataset_uri=dataset.path,
        encoder_uri=encoder.path,
        output_uri=index.path,
        factory=factory,
        search_parameters=search_parameters,
        shard_passages=shard_passages,
        batch_tokens=batch_tokens,
        num_threads=num_threads,
        training_vectors=training_vectors,
        num_recall_queries=num_recall_queries,
        min_recall=min_recall,
        seed=seed,
    )
