"""The name of a run: short enough for every label that Kubernetes makes of it, and no store's content is downloaded."""

import dataclasses

from components.shared.durable import storage
from pipelines.cluster.deployment import Deployment
from pipelines.operate.naming import corpus_digests, run_name
from pipelines.settings import complete
from tests.pipelines.compiling import DEPLOYMENT, GIVEN


def test_the_longest_name_of_a_flow_leaves_room_for_the_words_behind_a_name() -> None:
    deployment = Deployment(name="a" * 39 + "-" + "b" * 12)
    name = run_name(complete(GIVEN), deployment, corpus_version="1")
    assert name.startswith("a" * 39 + "-")
    assert "--" not in name
    assert len(f"{name}-retry-99") <= 63


def test_a_trailing_slash_is_no_other_place() -> None:
    other = dataclasses.replace(DEPLOYMENT, state_uri=f"{DEPLOYMENT.state_uri}/")
    settings = complete(GIVEN)
    assert run_name(settings, other, corpus_version="1") == run_name(settings, DEPLOYMENT, corpus_version="1")


def test_another_place_is_another_run() -> None:
    other = dataclasses.replace(DEPLOYMENT, state_uri="s3://bucket/elsewhere")
    settings = complete(GIVEN)
    assert run_name(settings, other, corpus_version="1") != run_name(settings, DEPLOYMENT, corpus_version="1")


def test_the_corpus_is_known_by_the_digest_that_the_cache_of_kubeflow_knows_it_by() -> None:
    settings = complete({**GIVEN, "prepare": {"collection_uri": "memory://corpora/squad"}})
    assert corpus_digests(settings) == {"prepare.collection_uri": storage.content_digest("memory://corpora/squad")}
