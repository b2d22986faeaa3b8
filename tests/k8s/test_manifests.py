"""What kustomize builds: valid against the schemas, hardened, and in agreement with the server it starts."""

import dataclasses
import re
from pathlib import Path

import pytest

from components.serve.config import ServeConfig
from components.serve.keys import KeyRing
from components.serve.metrics import PATHS
from components.serve.observed import OPEN
from tests.k8s.built import K8S, Manifest, build, by_kind, problems

BASE = K8S / "base"


@pytest.fixture(scope="module")
def manifests() -> dict[str, Manifest]:
    """Kind -> manifest, as kustomize builds the base."""
    return by_kind(build(BASE))


@pytest.fixture
def pod(manifests: dict[str, Manifest]) -> Manifest:
    return dict(manifests["Deployment"]["spec"]["template"]["spec"])


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    return dict(only)


def test_the_check_finds_an_unknown_field_a_wrong_type_and_an_unknown_kind(manifests: dict[str, Manifest]) -> None:
    service = manifests["Service"]
    assert problems({**service, "spec": {**service["spec"], "prots": []}})
    assert problems({**service, "spec": {**service["spec"], "ports": "http"}})
    assert problems({**service, "kind": "Servis"})


def test_the_pod_runs_without_any_privilege(pod: Manifest, container: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/home/retriever"}


def test_every_selector_finds_the_pod_and_nothing_else(manifests: dict[str, Manifest]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    wanted = {"app.kubernetes.io/name": "retriever-serve"}
    assert wanted.items() <= labels.items()
    assert manifests["Deployment"]["spec"]["selector"] == {"matchLabels": wanted}
    assert manifests["Service"]["spec"]["selector"] == wanted
    assert manifests["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": wanted}
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": wanted}
    # The peers are other pods: they do not carry the server's labels.
    assert policy["ingress"][0]["from"][0]["podSelector"] == {"matchLabels": {"retriever-client": "true"}}
    assert (
        manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == manifests["Deployment"]["metadata"]["name"]
    )


def test_names_that_point_at_each_other_agree(
    manifests: dict[str, Manifest], pod: Manifest, container: Manifest
) -> None:
    assert pod["serviceAccountName"] == manifests["ServiceAccount"]["metadata"]["name"]
    artifacts, store = container["envFrom"]
    assert artifacts == {"configMapRef": {"name": manifests["ConfigMap"]["metadata"]["name"]}}
    # Where the cloud knows the account, there is no key of a store to be had.
    assert store == {"secretRef": {"name": "retriever-store", "optional": True}}
    (port,) = container["ports"]
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        port["name"]
    }
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


def test_the_arguments_are_flags_of_the_server_and_all_their_variables_exist(
    manifests: dict[str, Manifest], container: Manifest
) -> None:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    fields = {field.name.replace("_", "-") for field in dataclasses.fields(ServeConfig)}
    assert set(flags) <= fields
    variables = {name for value in flags.values() for name in re.findall(r"\$\((\w+)\)", value)}
    assert variables == {"ENCODER_URI", "INDEX_URI", "DATASET_URI", "CPUS"}
    assert variables <= set(manifests["ConfigMap"]["data"]) | {entry["name"] for entry in container["env"]}
    assert container["command"] == ["python", "-m", "components.serve"]
    assert int(flags["port"]) == container["ports"][0]["containerPort"]


def test_api_keys_come_from_a_secret_that_may_rotate(pod: Manifest, container: Manifest) -> None:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    (volume,) = [entry for entry in pod["volumes"] if "secret" in entry]
    (mount,) = [entry for entry in container["volumeMounts"] if entry["name"] == volume["name"]]
    assert Path(flags["api-keys-path"]).parent == Path(mount["mountPath"])
    assert mount["readOnly"] is True
    # A file mounted by subPath is never updated.
    assert "subPath" not in mount
    # Readable by the group that the pod runs as, and by nobody else.
    assert volume["secret"]["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    example = BASE / "api-keys.example"
    assert KeyRing.open(str(example)).name_of(example.read_text().split()[-1]) == "search-box"


def test_probes_are_paths_of_the_server_that_need_no_key(container: Manifest) -> None:
    probes = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {"/v2/health/live", "/v2/health/ready"}
    assert probes <= set(PATHS)
    assert probes <= OPEN


def test_the_queue_is_shorter_than_the_longest_request(container: Manifest) -> None:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    assert float(flags["max-queue-seconds"]) < float(flags["request-seconds"])


def test_the_pod_lives_long_enough_to_drain(pod: Manifest, container: Manifest) -> None:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = pre_stop + float(flags["drain-seconds"]) + float(flags["request-seconds"])
    assert pod["terminationGracePeriodSeconds"] > needed
    # Readiness is noticed within the drain.
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(flags["drain-seconds"])


def test_threads_come_from_the_cpu_request(container: Manifest) -> None:
    sources = {entry["name"]: entry.get("valueFrom") for entry in container["env"]}
    request = {"resourceFieldRef": {"resource": "requests.cpu"}}
    assert sources["CPUS"] == sources["OMP_NUM_THREADS"] == request
    assert container["resources"]["requests"]["cpu"]
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
