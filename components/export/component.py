"""export as Kubeflow components: of the base model, named by a string, and of a checkpoint of train."""

from kfp import dsl

from components.images import container


@dsl.container_component
def export_base(
    checkpoint_uri: str,
    encoder: dsl.Output[dsl.Model],
    pooling: str = "auto",
    normalise: str = "auto",
    query_prefix: str = "",
    passage_prefix: str = "",
    query_tokens: int = 32,
    passage_tokens: int = 140,
    opset: int = 18,
    max_difference: float = 1e-5,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """A model on the hub or in a folder -> encoder; how it pools and what it reads are given, or taken from its folder."""
    return container(
        "export",
        checkpoint_uri=checkpoint_uri,
        output_uri=encoder.path,
        pooling=pooling,
        normalise=normalise,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        query_tokens=query_tokens,
        passage_tokens=passage_tokens,
        opset=opset,
        max_difference=max_difference,
        seed=seed,
    )


@dsl.container_component
def export_checkpoint(
    checkpoint: dsl.Input[dsl.Model],
    encoder: dsl.Output[dsl.Model],
    opset: int = 18,
    max_difference: float = 1e-5,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Checkpoint of train -> encoder; pooling, prefixes and lengths are those it was trained with."""
    return container(
        "export",
        checkpoint_uri=checkpoint.path,
        output_uri=encoder.path,
        opset=opset,
        max_difference=max_difference,
        seed=seed,
    )
