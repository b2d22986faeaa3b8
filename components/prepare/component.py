"""prepare as a Kubeflow component."""

from kfp import dsl

from components.images import container


@dsl.container_component
def prepare(
    collection_uri: str,
    dataset: dsl.Output[dsl.Dataset],
    collection_digest: str = "",  # noqa: ARG001 - see below
    on_problem: str = "refuse",
    max_reported: int = 20,
) -> dsl.ContainerSpec:
    """Raw collection in BEIR layout -> dataset.

    `collection_digest` is part of the cache key only: a collection that changed under the same URI is read again.
    """
    return container(
        "prepare",
        collection_uri=collection_uri,
        output_uri=dataset.path,
        on_problem=on_problem,
        max_reported=max_reported,
    )
