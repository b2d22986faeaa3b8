"""index as Kubeflow components: in one task, or the vectors in several and the index from them, or from an earlier index."""

from kfp import dsl

from components.images import all_paths, container


@dsl.container_component
def index(
    dataset: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    index: dsl.Output[dsl.Artifact],
    variant: str = "auto",
    factory: str = "auto",
    search_parameters: str = "",
    memory_mib: int = 0,
    shard_passages: int = 16384,
    part_passages: int = 1048576,
    batch_tokens: int = 512,
    vector_dtype: str = "float32",
    num_threads: int = 0,
    training_vectors: int = 262144,
    num_recall_queries: int = 512,
    min_recall: float = 0.95,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Encoder and corpus -> index, its recall measured and gated."""
    return container(
        "index",
        dataset_uri=dataset.path,
        encoder_uri=encoder.path,
        output_uri=index.path,
        variant=variant,
        factory=factory,
        search_parameters=search_parameters,
        memory_mib=memory_mib,
        shard_passages=shard_passages,
        part_passages=part_passages,
        batch_tokens=batch_tokens,
        vector_dtype=vector_dtype,
        num_threads=num_threads,
        training_vectors=training_vectors,
        num_recall_queries=num_recall_queries,
        min_recall=min_recall,
        seed=seed,
    )


@dsl.container_component
def encode_corpus(
    dataset: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    vectors: dsl.Output[dsl.Artifact],
    variant: str = "auto",
    shard: int = 0,
    num_shards: int = 1,
    shard_passages: int = 16384,
    batch_tokens: int = 512,
    vector_dtype: str = "float32",
    num_threads: int = 0,
) -> dsl.ContainerSpec:
    """Every num_shards-th shard of the corpus -> vectors; all of them are the vectors of `index_vectors`."""
    return container(
        "index",
        dataset_uri=dataset.path,
        encoder_uri=encoder.path,
        output_uri=vectors.path,
        product="vectors",
        variant=variant,
        shard=shard,
        num_shards=num_shards,
        shard_passages=shard_passages,
        batch_tokens=batch_tokens,
        vector_dtype=vector_dtype,
        num_threads=num_threads,
    )


@dsl.container_component
def index_vectors(
    dataset: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    vectors: dsl.Input[list[dsl.Artifact]],
    index: dsl.Output[dsl.Artifact],
    variant: str = "auto",
    factory: str = "auto",
    search_parameters: str = "",
    memory_mib: int = 0,
    shard_passages: int = 16384,
    part_passages: int = 1048576,
    vector_dtype: str = "float32",
    num_threads: int = 0,
    training_vectors: int = 262144,
    num_recall_queries: int = 512,
    min_recall: float = 0.95,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Vectors of several `encode_corpus` -> index, as `index` would have built it alone."""
    return container(
        "index",
        dataset_uri=dataset.path,
        encoder_uri=encoder.path,
        vectors_uri=all_paths(vectors),
        output_uri=index.path,
        variant=variant,
        factory=factory,
        search_parameters=search_parameters,
        memory_mib=memory_mib,
        shard_passages=shard_passages,
        part_passages=part_passages,
        vector_dtype=vector_dtype,
        num_threads=num_threads,
        training_vectors=training_vectors,
        num_recall_queries=num_recall_queries,
        min_recall=min_recall,
        seed=seed,
    )


@dsl.container_component
def update_index(
    dataset: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    previous: dsl.Input[dsl.Artifact],
    index: dsl.Output[dsl.Artifact],
    variant: str = "auto",
    factory: str = "auto",
    search_parameters: str = "",
    memory_mib: int = 0,
    shard_passages: int = 16384,
    part_passages: int = 1048576,
    batch_tokens: int = 512,
    vector_dtype: str = "float32",
    num_threads: int = 0,
    training_vectors: int = 262144,
    num_recall_queries: int = 512,
    min_recall: float = 0.95,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """A changed corpus and the index of its earlier state -> index; only new and changed passages are encoded."""
    return container(
        "index",
        dataset_uri=dataset.path,
        encoder_uri=encoder.path,
        previous_uri=previous.path,
        output_uri=index.path,
        variant=variant,
        factory=factory,
        search_parameters=search_parameters,
        memory_mib=memory_mib,
        shard_passages=shard_passages,
        part_passages=part_passages,
        batch_tokens=batch_tokens,
        vector_dtype=vector_dtype,
        num_threads=num_threads,
        training_vectors=training_vectors,
        num_recall_queries=num_recall_queries,
        min_recall=min_recall,
        seed=seed,
    )
