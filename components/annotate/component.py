"""annotate as a Kubeflow component; one task judges one shard of the pools."""

from kfp import dsl

from components.images import container


@dsl.container_component
def annotate(
    dataset: dsl.Input[dsl.Dataset],
    pools: dsl.Input[dsl.Artifact],
    llm_uri: str,
    annotations: dsl.Output[dsl.Artifact],
    journal_uri: str = "",
    endpoint_uri: str = "",
    engine: str = "vllm",
    method: str = "utility_selection",
    window: int = 16,
    passage_words: int = 300,
    rank_share: float = 0.1,
    likelihood: str = "mean",
    positive_margin: float = 0.0,
    ignore_margin: float = 0.3,
    calibration_queries: int = 100,
    not_useful: str = "ignore",
    answer_tokens: int = 128,
    layout: str = "paper",
    sampling_profile: str = "auto",
    sampling_temperature: float = -1.0,
    max_attempts: int = 2,
    num_in_flight: int = 64,
    num_engines: int = 1,
    batch_tokens: int = 1024,
    shard: int = 0,
    num_shards: int = 1,
    seed: int = 42,
) -> dsl.ContainerSpec:
    """Pools -> annotations: an LLM judges each passage's utility for answering the query."""
    return container(
        "annotate",
        dataset_uri=dataset.path,
        pools_uri=pools.path,
        output_uri=annotations.path,
        llm_uri=llm_uri,
        journal_uri=journal_uri,
        endpoint_uri=endpoint_uri,
        engine=engine,
        method=method,
        window=window,
        passage_words=passage_words,
        rank_share=rank_share,
        likelihood=likelihood,
        positive_margin=positive_margin,
        ignore_margin=ignore_margin,
        calibration_queries=calibration_queries,
        not_useful=not_useful,
        answer_tokens=answer_tokens,
        layout=layout,
        sampling_profile=sampling_profile,
        sampling_temperature=sampling_temperature,
        max_attempts=max_attempts,
        num_in_flight=num_in_flight,
        num_engines=num_engines,
        batch_tokens=batch_tokens,
        shard=shard,
        num_shards=num_shards,
        seed=seed,
    )
