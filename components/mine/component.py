"""mine as a Kubeflow component."""

from kfp import dsl

from components.images import container


@dsl.container_component
def mine(
    dataset: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    index: dsl.Input[dsl.Artifact],
    pools: dsl.Output[dsl.Artifact],
    num_bm25: int = 15,
    num_dense: int = 15,
    depth: int = 100,
    human_positive: str = "include",
    num_queries: int = 0,
    num_evaluation_queries: int = 100,
    relative_margin: float = 0.0,
    suspected_margin: float = 0.95,
    max_suspected_share: float = 0.9,
    max_positive_share: float = 0.0,
    max_duplicate_share: float = 0.0,
    max_missing_share: float = 0.0,
    max_empty_share: float = 0.0,
    max_pool_share: float = 0.5,
    cache_uri: str = "",
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Dataset, encoder and index -> pools of hard negatives for the annotator."""
    return container(
        "mine",
        dataset_uri=dataset.path,
        encoder_uri=encoder.path,
        index_uri=index.path,
        output_uri=pools.path,
        num_bm25=num_bm25,
        num_dense=num_dense,
        depth=depth,
        human_positive=human_positive,
        num_queries=num_queries,
        num_evaluation_queries=num_evaluation_queries,
        relative_margin=relative_margin,
        suspected_margin=suspected_margin,
        max_suspected_share=max_suspected_share,
        max_positive_share=max_positive_share,
        max_duplicate_share=max_duplicate_share,
        max_missing_share=max_missing_share,
        max_empty_share=max_empty_share,
        max_pool_share=max_pool_share,
        cache_uri=cache_uri,
        seed=seed,
    )
