"""The components that an overlay may take in: monitors, queues, and the server under KServe."""

import dataclasses
import os
from pathlib import Path

import pytest
import yaml

from components.evaluate.drift.config import DriftConfig
from components.serve.config import ServeConfig
from pipelines.cluster.variables import METRICS_PORT
from tests.k8s.built import K8S, KSERVE_FIELDS, Manifest, build, only, problems

_COMPONENTS = ("alerts", "dashboards", "drift", "follow", "kserve", "kueue", "podmonitor", "podmonitoring")


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """The folder of a user's own overlay; kustomize takes relative paths only."""
    return tmp_path


def _overlay(folder: Path, below: str, *components: str, **more: object) -> list[Manifest]:
    places = {"resources": [below], "components": [f"components/{name}" for name in components]}
    content = {name: [os.path.relpath(K8S / path, folder) for path in paths] for name, paths in places.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**content, **more}))
    return build(folder)


def test_every_component_is_tested() -> None:
    assert tuple(sorted(path.name for path in (K8S / "components").iterdir())) == _COMPONENTS


@pytest.mark.parametrize("below", ["base", "overlays/kind", "overlays/gke"])
@pytest.mark.parametrize("component", _COMPONENTS)
def test_a_component_is_valid_over_every_overlay(component: str, below: str, above: Path) -> None:
    manifests = _overlay(above, below, component)
    assert [problem for manifest in manifests for problem in problems(manifest)] == []


@pytest.mark.parametrize("namespace", [None, "search"])
def test_everything_lands_in_one_namespace(namespace: str | None, above: Path) -> None:
    more = {"namespace": namespace} if namespace else {}
    manifests = _overlay(above, "overlays/gke", *_COMPONENTS, **more)
    own = [
        manifest for manifest in manifests if manifest["kind"] not in ("Namespace", "ClusterQueue", "ResourceFlavor")
    ]
    assert {manifest["metadata"].get("namespace") for manifest in own} == {namespace or "retriever"}


def test_all_components_work_together(above: Path) -> None:
    kinds = {manifest["kind"] for manifest in _overlay(above, "overlays/gke", *_COMPONENTS)}
    assert {"InferenceService", "ClusterQueue", "PodMonitor", "PodMonitoring"} <= kinds


def test_a_server_that_follows_a_pointer_has_no_other_address(above: Path) -> None:
    (deployment,) = [one for one in _overlay(above, "overlays/kind", "follow") if one["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [one for one in arguments if "_URI)" in one] == ["--pointer-uri=$(POINTER_URI)"]


def test_the_strict_schemas_find_a_misspelt_field(above: Path) -> None:
    for manifest in _overlay(above, "base", *_COMPONENTS):
        if "spec" in manifest and manifest["kind"] not in ("ServiceAccount", "ConfigMap"):
            assert problems({**manifest, "spec": {**manifest["spec"], "specc": 1}}), manifest["kind"]


def test_the_monitors_find_the_pods_and_a_port_that_they_name(above: Path) -> None:
    for component, endpoints in (("podmonitor", "podMetricsEndpoints"), ("podmonitoring", "endpoints")):
        manifests = _overlay(above, "base", component)
        pods = {
            "retriever-serve": only(manifests, "Deployment")["spec"]["template"],
            "retriever-train": _train_pod(),
            "retriever-tasks": _task_pod(),
        }
        monitors = [manifest for manifest in manifests if manifest["kind"].startswith("PodMonitor")]
        assert {monitor["metadata"]["name"] for monitor in monitors} == set(pods)
        for monitor in monitors:
            pod = pods[monitor["metadata"]["name"]]
            assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            (endpoint,) = monitor["spec"][endpoints]
            if "port" in endpoint:
                assert endpoint["port"] in ports
            else:
                # Kubeflow's pods name none: the address is made of the pod's and the port that every task is told.
                assert endpoint["relabelings"][-1]["replacement"] == f"$1:{METRICS_PORT}"


def _train_pod() -> Manifest:
    return dict(yaml.safe_load((K8S / "train" / "job.yaml").read_text())["spec"]["template"])


def _task_pod() -> Manifest:
    """A pod of a workflow as Argo makes it: of the template, with the labels of all pods."""
    path = K8S.parent / "tests" / "pipelines" / "golden" / "argo-kind.yaml"
    spec = next(yaml.safe_load_all(path.read_text()))["spec"]
    container = next(template["container"] for template in spec["templates"] if "container" in template)
    return {"metadata": spec["podMetadata"], "spec": {"containers": [container]}}


def test_the_servers_sample_into_the_folder_that_the_report_on_drift_reads(above: Path) -> None:
    manifests = _overlay(above, "overlays/gke", "drift")
    cron = only(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    server = only(manifests, "Deployment")["spec"]["template"]
    (report,), (serving,) = (pod["spec"]["containers"] for pod in (cron, server))
    maps = {manifest["metadata"]["name"]: manifest["data"] for manifest in manifests if manifest["kind"] == "ConfigMap"}
    for container, module in ((report, DriftConfig), (serving, ServeConfig)):
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
        fields = {field.name.replace("_", "-") for field in dataclasses.fields(module)}
        assert set(flags) <= fields
        assert flags["sample-uri"] == "$(SAMPLE_URI)"
        sources = [entry["configMapRef"]["name"] for entry in container["envFrom"] if "configMapRef" in entry]
        # Names carry a hash of the content: another folder is another rollout.
        values = {name: value for source in sources for name, value in maps[source].items()}
        assert {"ENCODER_URI", "INDEX_URI", "DATASET_URI", "SAMPLE_URI", "REPORT_URI"} <= set(values)
    # The servers' service, budget and network policy must not select the report's pod.
    names = {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in (cron, server)}
    assert names == {"retriever-serve", "retriever-drift"}


def test_under_kserve_the_servers_sample_too(above: Path) -> None:
    predictor = only(_overlay(above, "base", "drift", "kserve"), "InferenceService")["spec"]["predictor"]
    assert "--sample-uri=$(SAMPLE_URI)" in predictor["containers"][0]["args"]


def test_the_queue_is_the_one_that_training_waits_in_and_its_gpus_are_those_it_asks_for(above: Path) -> None:
    manifests = _overlay(above, "base", "kueue")
    train_job = yaml.safe_load((K8S / "train" / "trainjob.yaml").read_text())
    queue = only(manifests, "LocalQueue")
    assert train_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    cluster_queue = only(manifests, "ClusterQueue")
    assert queue["spec"]["clusterQueue"] == cluster_queue["metadata"]["name"]
    flavors = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == "ResourceFlavor"}
    groups = cluster_queue["spec"]["resourceGroups"]
    assert {flavor["name"] for group in groups for flavor in group["flavors"]} == set(flavors)
    # A resource without a quota is never admitted.
    asked = _train_pod()["spec"]["containers"][0]["resources"]["requests"]
    covered = {resource for group in groups for resource in group["coveredResources"]}
    assert covered >= set(asked) - {"ephemeral-storage"}
    selector = _train_pod()["spec"]["nodeSelector"]
    assert flavors["retriever-l4"]["spec"]["nodeLabels"] == selector


def test_under_kserve_runs_the_same_pod_with_what_the_overlay_changed(above: Path) -> None:
    plain = build(K8S / "overlays/gke")
    manifests = _overlay(
        above,
        "overlays/gke",
        "kserve",
        images=[{"name": "europe-docker.pkg.dev/PROJECT/retriever/serve", "newTag": "9.9.9"}],
    )
    predictor = only(manifests, "InferenceService")["spec"]["predictor"]
    pod = only(plain, "Deployment")["spec"]["template"]["spec"]
    (before,), (after,) = pod["containers"], predictor["containers"]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"name", "image"}
    assert (after["name"], after["image"].rpartition(":")[2]) == ("kserve-container", "9.9.9")
    assert {name for name in pod if pod[name] != predictor[name]} == {"containers"}
    assert set(predictor) - set(pod) == set(KSERVE_FIELDS)
    # Its name carries a hash, which kustomize must put here too.
    assert only(manifests, "ConfigMap")["metadata"]["name"] == after["envFrom"][0]["configMapRef"]["name"]


def test_under_kserve_the_pod_is_valid_and_nothing_is_left_that_kserve_makes(above: Path) -> None:
    manifests = _overlay(above, "overlays/kind", "kserve")
    assert not {"Deployment", "Service", "HorizontalPodAutoscaler"} & {manifest["kind"] for manifest in manifests}
    predictor = only(manifests, "InferenceService")["spec"]["predictor"]
    pod = {name: value for name, value in predictor.items() if name not in KSERVE_FIELDS}
    labels = predictor["labels"]
    metadata = {"name": "predictor", "labels": labels}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": metadata, "spec": pod}},
    }
    assert problems(deployment) == []
    # The disruption budget and the network policy go on selecting it.
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert only(manifests, kind)["spec"][field]["matchLabels"].items() <= labels.items()
