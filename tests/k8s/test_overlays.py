"""The overlays: valid, namespace first, with nothing of a cloud in the base, and open only where a cluster needs it."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.built import K8S, Manifest, build, only, problems

_SERVERS = ("base", "overlays/kind", "overlays/gke", "overlays/gke-gpu")
_BEFORE = ("overlays/kind/pipeline", "overlays/gke/pipeline")
_EVERY = (*_SERVERS, *_BEFORE, "pipeline", "store", "namespace")
_WORKLOADS = ("Deployment", "StatefulSet")
every_folder = pytest.mark.parametrize("folder", _EVERY)


@every_folder
def test_every_manifest_is_valid_against_its_schema(folder: str) -> None:
    manifests = build(K8S / folder)
    assert [problem for manifest in manifests for problem in problems(manifest)] == []


def test_no_folder_of_manifests_is_left_out() -> None:
    folders = {str(path.parent.relative_to(K8S)) for path in K8S.rglob("kustomization.yaml")}
    assert {folder for folder in folders if not folder.startswith("components/")} == set(_EVERY)


@pytest.mark.parametrize("folder", [*_SERVERS, *_BEFORE])
def test_the_namespace_comes_with_what_is_in_it(folder: str) -> None:
    manifests = build(K8S / folder)
    # What kubectl sends first; anything before it would be refused in an empty cluster.
    assert manifests[0]["kind"] == "Namespace"
    assert manifests[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {manifest["metadata"].get("namespace") for manifest in manifests[1:]} == {manifests[0]["metadata"]["name"]}


@every_folder
def test_every_pod_passes_a_restricted_namespace(folder: str) -> None:
    for manifest in build(K8S / folder):
        if manifest["kind"] in _WORKLOADS:
            _check_restricted(manifest["spec"]["template"]["spec"])


def test_the_training_job_passes_a_restricted_namespace() -> None:
    _check_restricted(yaml.safe_load((K8S / "train" / "job.yaml").read_text())["spec"]["template"]["spec"])


def _check_restricted(pod: Manifest) -> None:
    """Source: the profile Restricted of the Pod Security Standards."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {kind for volume in pod.get("volumes", ()) for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


@every_folder
def test_every_container_says_what_it_needs_and_how_much_it_may_have(folder: str) -> None:
    for manifest in build(K8S / folder):
        if manifest["kind"] in _WORKLOADS:
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                assert {"cpu", "memory"} <= set(container["resources"]["requests"])
                assert "memory" in container["resources"]["limits"]
                assert ":" in container["image"]
                assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("folder", ["base", "pipeline", "namespace", "store"])
def test_only_overlays_name_a_cloud(folder: str) -> None:
    text = "".join(path.read_text() for path in (K8S / folder).glob("*.yaml"))
    assert "gke.io" not in text
    assert "169.254.169" not in text


@pytest.mark.parametrize(("folder", "account"), [("gke", "retriever-serve"), ("gke/pipeline", "retriever-pipeline")])
def test_gke_binds_each_account_to_an_identity_of_its_own(folder: str, account: str) -> None:
    metadata = only(build(K8S / "overlays" / folder), "ServiceAccount")["metadata"]
    assert metadata["name"] == account
    identity = metadata["annotations"]["iam.gke.io/gcp-service-account"]
    assert identity.startswith(f"{account}@")


def test_the_account_of_tasks_may_report_a_tasks_end_and_nothing_else() -> None:
    manifests = build(K8S / "pipeline")
    assert only(manifests, "Role")["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
    ]
    binding = only(manifests, "RoleBinding")
    assert binding["roleRef"]["name"] == only(manifests, "Role")["metadata"]["name"]
    account = only(manifests, "ServiceAccount")
    assert [subject["name"] for subject in binding["subjects"]] == [account["metadata"]["name"]]
    # Seen on a cluster: without its token Argo's own container ends the pod before the task begins.
    assert account["automountServiceAccountToken"] is True


def test_the_server_has_no_right_in_the_cluster() -> None:
    for folder in _SERVERS:
        manifests = build(K8S / folder)
        assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {one["kind"] for one in manifests}
        assert only(manifests, "ServiceAccount")["automountServiceAccountToken"] is False


def _lets_out(policy: Manifest, address: str, port: int) -> bool:
    """Whether the policy lets its pods reach an address that belongs to no pod."""
    wanted = ipaddress.ip_address(address)
    for rule in policy["spec"]["egress"]:
        ports = {entry["port"] for entry in rule.get("ports", ())}
        blocks = [peer["ipBlock"]["cidr"] for peer in rule.get("to", ()) if "ipBlock" in peer]
        networks = [ipaddress.ip_network(block) for block in blocks]
        if port in ports and any(wanted in network for network in networks if network.version == wanted.version):
            return True
    return False


@pytest.mark.parametrize("folder", _SERVERS)
def test_name_servers_are_reached_as_pods_and_on_the_nodes_network(folder: str) -> None:
    policy = only(build(K8S / folder), "NetworkPolicy")
    # NodeLocal DNSCache, which no label selects.
    assert _lets_out(policy, "169.254.20.10", 53)
    selected = [
        peer["podSelector"]["matchExpressions"][0]
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if "namespaceSelector" in peer
    ]
    assert selected == [{"key": "k8s-app", "operator": "In", "values": ["kube-dns", "node-local-dns"]}]
    protocols = {(entry["protocol"], entry["port"]) for rule in policy["spec"]["egress"] for entry in rule["ports"]}
    assert {("UDP", 53), ("TCP", 53)} <= protocols


@pytest.mark.parametrize(
    ("folder", "address", "port", "expected"),
    [
        ("overlays/gke", "169.254.169.254", 80, True),  # identities, Dataplane V2
        ("overlays/gke", "169.254.169.252", 988, True),  # identities, Calico
        ("overlays/gke", "142.250.1.1", 443, True),  # buckets
        ("overlays/gke", "10.0.0.7", 8080, False),
        ("base", "169.254.169.254", 80, False),
        ("overlays/kind", "169.254.169.254", 80, False),
    ],
)
def test_the_server_reaches_identities_and_buckets_and_nothing_else(
    folder: str, address: str, port: int, expected: bool
) -> None:
    assert _lets_out(only(build(K8S / folder), "NetworkPolicy"), address, port) is expected


def _peers(policy: Manifest) -> list[dict[str, Any]]:
    return [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]]


@pytest.mark.parametrize("folder", _SERVERS)
def test_clients_gateways_and_metrics_are_let_in_and_nobody_else(folder: str) -> None:
    policy = only(build(K8S / folder), "NetworkPolicy")
    # Without both, what no rule names would be open.
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    peers = _peers(policy)
    assert {} not in peers
    assert {"podSelector": {"matchLabels": {"retriever-client": "true"}}} in peers
    assert {"namespaceSelector": {"matchLabels": {"retriever-gateway": "true"}}} in peers
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == {"http"}


def test_googles_load_balancers_reach_the_pods() -> None:
    blocks = {
        peer["ipBlock"]["cidr"]
        for peer in _peers(only(build(K8S / "overlays/gke"), "NetworkPolicy"))
        if "ipBlock" in peer
    }
    # Source: Google's documentation of load balancers: proxies and health checks.
    assert blocks == {"35.191.0.0/16", "130.211.0.0/22"}


def test_gke_with_gpus_queues_them_and_keeps_the_server_off_them() -> None:
    manifests = build(K8S / "overlays/gke-gpu")
    assert only(manifests, "LocalQueue")["metadata"]["name"] == "retriever"
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert "tolerations" not in pod


def test_servers_spread_over_zones_and_gke_waits_for_a_zone() -> None:
    for folder in _SERVERS:
        spread = only(build(K8S / folder), "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
        rules = {rule["topologyKey"]: rule["whenUnsatisfiable"] for rule in spread}
        expected = "DoNotSchedule" if folder.startswith("overlays/gke") else "ScheduleAnyway"
        assert rules == {"topology.kubernetes.io/zone": expected, "kubernetes.io/hostname": "ScheduleAnyway"}


def test_the_store_of_kind_keeps_its_bucket_on_a_claim_and_opens_one_port() -> None:
    manifests = build(K8S / "overlays/kind/pipeline")
    store = only(manifests, "StatefulSet")
    (claim,) = store["spec"]["volumeClaimTemplates"]
    (container,) = store["spec"]["template"]["spec"]["containers"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in container["volumeMounts"]
    assert "-dir=/data" in container["args"]
    (rule,) = only(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [container["ports"][0]["name"]]
    # The server's own policy lets it reach that very port.
    egress = only(build(K8S / "overlays/kind"), "NetworkPolicy")["spec"]["egress"]
    selector = {"matchLabels": store["spec"]["selector"]["matchLabels"]}
    to_store = [rule for rule in egress if {"podSelector": selector} in rule["to"]]
    assert [rule["ports"] for rule in to_store] == [
        [{"protocol": "TCP", "port": container["ports"][0]["containerPort"]}]
    ]


def test_kind_fits_four_cores_beside_others() -> None:
    manifests = build(K8S / "overlays/kind")
    (container,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    cores = int(container["resources"]["requests"]["cpu"].removesuffix("m")) / 1000
    assert cores * only(manifests, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] < 1


def _comments(path: Path) -> str:
    return "\n".join(line for line in path.read_text().splitlines() if line.lstrip().startswith("#"))


@pytest.mark.parametrize("folder", [*_SERVERS[1:], *_BEFORE])
def test_an_overlay_says_how_it_is_applied(folder: str) -> None:
    assert f"kubectl apply --kustomize k8s/{folder}\n" in _comments(K8S / folder / "kustomization.yaml") + "\n"
