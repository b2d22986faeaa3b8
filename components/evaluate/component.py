"""evaluate as a Kubeflow component; the annotations are the list of all shards."""

from kfp import dsl

from components.images import all_paths, container


@dsl.container_component
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    base_encoder: dsl.Input[dsl.Model],
    base_index: dsl.Input[dsl.Artifact],
    encoder: dsl.Input[dsl.Model],
    index: dsl.Input[dsl.Artifact],
    annotations: dsl.Input[list[dsl.Artifact]],
    evaluation: dsl.Output[dsl.Artifact],
    split: str = "test",
    depth: int = 1000,
    measures: str = "nDCG@10 RR@10 R@10 R@100 R@1000",
    min_grade: int = 1,
    num_resamples: int = 10000,
    confidence: float = 0.95,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Encoders, indexes and held-out queries -> runs, metrics, statistics and a report."""
    return container(
        "evaluate",
        dataset_uri=dataset.path,
        base_encoder_uri=base_encoder.path,
        base_index_uri=base_index.path,
        encoder_uri=encoder.path,
        index_uri=index.path,
        output_uri=evaluation.path,
        annotations_uri=all_paths(annotations),
        split=split,
        depth=depth,
        measures=measures,
        min_grade=min_grade,
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )
