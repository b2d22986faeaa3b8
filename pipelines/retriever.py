"""The whole flow as a Kubeflow pipeline: components are containers, artifacts flow between them.

A parameter file has about 80 settings. Those that differ from run to run of one compiled pipeline are its parameters,
with the file's values as defaults; all others become constants of the tasks when it is compiled, as do the number
of shards and the resources, which KFP cannot take from a parameter. So a run shows a page of parameters that a person
can read, and another setting is another compile, which takes a second.
"""

# No `from __future__ import annotations`: KFP reads the types of a pipeline's parameters from the signature itself.
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl

from components.annotate.component import annotate
from components.evaluate.component import evaluate
from components.export.component import export_base, export_checkpoint
from components.index.component import index
from components.mine.component import mine
from components.prepare.component import prepare
from components.shared.storage import content_digest
from components.train.component import train
from pipelines.resources import place
from pipelines.settings import Settings, complete

# Parameters of the pipeline, named <section>_<setting>.
_RUNTIME = (
    ("prepare", "collection_uri"),
    ("base", "checkpoint_uri"),
    ("mine", "num_queries"),
    ("annotate", "llm_uri"),
    ("annotate", "endpoint_uri"),
    ("annotate", "journal_uri"),
    ("train", "state_uri"),
    ("train", "curriculum"),
    ("evaluate", "split"),
)


class Outcome(NamedTuple):
    """What a run leaves: all that serve needs, and how good it is."""

    dataset: dsl.Dataset
    encoder: dsl.Model
    index: dsl.Artifact
    evaluation: dsl.Artifact


def build(values: Mapping[str, Any], profile: str) -> object:
    """The pipeline of a parameter file's content on the machines of a profile."""
    settings = complete(values)
    fixed = {
        section: {k: v for k, v in its.items() if (section, k) not in _RUNTIME} for section, its in settings.items()
    }
    default = {f"{section}_{name}": settings[section][name] for section, name in _RUNTIME}

    @dsl.pipeline(name="retriever", description="From a corpus to a measured dense retriever.")
    def retriever(
        prepare_collection_uri: str = default["prepare_collection_uri"],
        prepare_collection_digest: str = "",
        base_checkpoint_uri: str = default["base_checkpoint_uri"],
        mine_num_queries: int = default["mine_num_queries"],
        annotate_llm_uri: str = default["annotate_llm_uri"],
        annotate_endpoint_uri: str = default["annotate_endpoint_uri"],
        annotate_journal_uri: str = default["annotate_journal_uri"],
        train_state_uri: str = default["train_state_uri"],
        train_curriculum: str = default["train_curriculum"],
        evaluate_split: str = default["evaluate_split"],
    ) -> Outcome:
        collection = {"collection_uri": prepare_collection_uri, "collection_digest": prepare_collection_digest}
        dataset = place(prepare(**collection, **fixed["prepare"]), "prepare", profile, "prepare").output

        base_export = export_base(dataset=dataset, checkpoint_uri=base_checkpoint_uri, **fixed["base"])
        base_encoder = place(base_export, "export", profile, "export (base)").output
        base_indexed = index(dataset=dataset, encoder=base_encoder, **fixed["index"])
        base_index = place(base_indexed, "index", profile, "index (base)").output

        mined = mine(
            dataset=dataset, encoder=base_encoder, index=base_index, num_queries=mine_num_queries, **fixed["mine"]
        )
        pools = place(mined, "mine", profile, "mine").output

        llm = {"llm_uri": annotate_llm_uri, "endpoint_uri": annotate_endpoint_uri, "journal_uri": annotate_journal_uri}
        with dsl.ParallelFor(items=list(range(fixed["annotate"]["num_shards"]))) as shard:
            annotated = annotate(dataset=dataset, pools=pools, shard=shard, **llm, **fixed["annotate"])
            annotations = place(annotated, "annotate", profile, "annotate").output

        learned = {"base_uri": base_checkpoint_uri, "state_uri": train_state_uri, "curriculum": train_curriculum}
        # Collected anew for each reader: the compiler changes the object it has seen.
        trained = train(dataset=dataset, annotations=dsl.Collected(annotations), **learned, **fixed["train"])
        checkpoint = place(trained, "train", profile, "train").output

        encoder = place(
            export_checkpoint(dataset=dataset, checkpoint=checkpoint, **fixed["export"]), "export", profile, "export"
        ).output
        indexed = place(index(dataset=dataset, encoder=encoder, **fixed["index"]), "index", profile, "index").output

        rankers = {"base_encoder": base_encoder, "base_index": base_index, "encoder": encoder, "index": indexed}
        judged = {"annotations": dsl.Collected(annotations), "split": evaluate_split}
        evaluated = evaluate(dataset=dataset, **rankers, **judged, **fixed["evaluate"])
        evaluation = place(evaluated, "evaluate", profile, "evaluate").output
        return Outcome(dataset=dataset, encoder=encoder, index=indexed, evaluation=evaluation)

    return retriever


def arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a run of the compiled pipeline: its parameters' values in a parameter file's content.

    Raises:
        ValueError: Naming an unknown section or setting and the nearest known one, or a place that is not given.
    """
    settings: Settings = complete(values)
    for section, name in (("prepare", "collection_uri"), ("base", "checkpoint_uri"), ("annotate", "llm_uri")):
        if not settings[section][name]:
            raise ValueError(f"{section}.{name} is not set; a run needs it")
    chosen = {f"{section}_{name}": settings[section][name] for section, name in _RUNTIME}
    # A cache key knows the name of the collection only; the digest makes changed content another key.
    return chosen | {"prepare_collection_digest": content_digest(settings["prepare"]["collection_uri"])}


def compile_to(path: Path, values: Mapping[str, Any], profile: str) -> None:
    """Writes the compiled pipeline (and the Kubernetes settings of its tasks) as YAML."""
    compiler.Compiler().compile(build(values, profile), str(path))
