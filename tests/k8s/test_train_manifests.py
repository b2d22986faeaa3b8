"""The files that train on several GPUs: valid, hardened, and in agreement with the job they start."""

from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from components.shared.launch import parse_flags
from components.train.config import TrainConfig
from tests.k8s.built import K8S, Manifest

_FOLDER = K8S / "train"


def read(name: str) -> Manifest:
    return dict(yaml.safe_load((_FOLDER / name).read_text()))


def patched_pod(train_job: Manifest) -> Manifest:
    (patch,) = train_job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    # The names that the runtime torch-distributed gives its job and container.
    assert replicated["name"] == "node"
    return dict(replicated["template"]["spec"]["template"])


def round_trip(manifest: Manifest) -> Any:
    """What Trainer's own model of a TrainJob keeps of the manifest: a field that it does not know is lost."""
    return TrainerV1alpha1TrainJob.from_dict(manifest).to_dict()


def test_the_job_is_valid() -> None:
    kubernetes_validate.validate(read("job.yaml"), "1.32", strict=True)


def test_the_train_job_has_no_field_that_kubeflow_trainer_does_not_know() -> None:
    manifest = read("trainjob.yaml")
    assert round_trip(manifest) == manifest
    misspelt = {**manifest, "spec": {**manifest["spec"], "runtimeReff": {}}}
    assert round_trip(misspelt) != misspelt
    with pytest.raises(ValueError, match="numNodes"):
        round_trip({**manifest, "spec": {**manifest["spec"], "trainer": {"numNodes": "two"}}})


def test_both_start_the_same_training_with_flags_of_the_job() -> None:
    pod = read("job.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    trainer = read("trainjob.yaml")["spec"]["trainer"]
    assert container["command"] == ["python", "-m", "components.train"]
    assert trainer["command"] == ["torchrun", "-m", "components.train"]
    assert trainer["image"] == container["image"]
    for arguments in (container["args"], trainer["args"]):
        config = parse_flags("train", TrainConfig, arguments)
        assert config.state_uri.startswith("gs://")
        # One process a GPU: those of the pod are found, those of a node are torchrun's.
        assert config.num_processes == 0


def test_there_is_a_process_a_gpu() -> None:
    trainer = read("trainjob.yaml")["spec"]["trainer"]
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == str(trainer["numProcPerNode"])


def test_both_pods_run_without_privileges_and_with_shared_memory_on_gpu_nodes() -> None:
    job, train_job = read("job.yaml")["spec"]["template"], patched_pod(read("trainjob.yaml"))
    alike = ("nodeSelector", "tolerations", "securityContext", "volumes", "terminationGracePeriodSeconds")
    for name in (*alike, "serviceAccountName"):
        assert job["spec"][name] == train_job["spec"][name], name
    (container,), (patch,) = job["spec"]["containers"], train_job["spec"]["containers"]
    for name in ("securityContext", "volumeMounts"):
        assert container[name] == patch[name], name
    assert job["metadata"]["annotations"] == train_job["metadata"]["annotations"]
    assert job["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_both_take_the_keys_of_a_store_from_the_same_secret_where_there_is_one() -> None:
    (container,) = read("job.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "retriever-store", "optional": True}}]
    variables = read("trainjob.yaml")["spec"]["trainer"]["env"]
    secrets = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in variables if "valueFrom" in entry}
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert secrets == {name: {"name": "retriever-store", "key": name, "optional": True} for name in names}
