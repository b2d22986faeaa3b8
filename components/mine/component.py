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
        seed=seed,
    )
