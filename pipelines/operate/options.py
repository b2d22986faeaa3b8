"""What is compiled, and how: the flags that `retriever compile`, `submit` and `schedule` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipelines import argo
from pipelines.cluster.deployment import Deployment
from pipelines.flow import Settings
from pipelines.settings import continued, read_settings

PARAMS = Path(__file__).parents[1] / "params"
Target = Literal["kfp", "argo"]
Texts = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """A flow and the cluster that it is put on."""

    params: Path = PARAMS / "msmarco.yaml"
    """Parameter file."""
    target: Target = "kfp"
    """kfp is a pipeline of Kubeflow; argo a WorkflowTemplate, and a CronWorkflow where there is a schedule."""
    profile: Literal["laptop", "kind", "gke-l4", "gke-l4x4", "gke-a100", "spot"] = "gke-a100"
    """Machines the tasks ask for, see pipelines/resources.py."""
    set: Texts = ()
    """One setting over the file's, such as --set annotate.num_shards=4; may be repeated."""
    continue_from: str = ""
    """Store of releases: every run starts from the encoder that is served there when it begins, which the gate compares
    with, and promotes what passes; where what is served was made of this very collection, it does nothing."""
    name: str = "retriever"
    """Name of the pipeline or WorkflowTemplate; one a corpus."""
    artifact_root: str = ""
    """Folder in a bucket that tasks hand each other their artifacts in (argo)."""
    state_uri: str = ""
    """Folder in a bucket for journals and training state, which a lost pod goes on from; argo puts it below
    artifact-root where it is not given."""
    service_account: str = ""
    """Service account of the tasks' pods (argo; Kubeflow takes its own)."""
    env: Texts = ()
    """A variable of every task, as NAME=VALUE, such as AWS_ENDPOINT_URL=http://minio:9000; may be repeated."""
    secret: Texts = ()
    """Variables of every task from a Secret, such as s3:AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY, or NAME=KEY where the
    key has another name; may be repeated."""
    volume: Texts = ()
    """A claim that every task may read, as CLAIM:/folder; may be repeated."""
    queue: str = ""
    """LocalQueue of Kueue that the pods wait in."""

    def settings(self) -> Settings:
        """The settings of the parameter file with those of the command line over them, checked.

        Raises:
            SettingsError: Naming everything that cannot work.
        """
        settings = read_settings(self.params, self.set)
        return continued(settings, self.continue_from) if self.continue_from else settings

    def deployment(self, schedule: str = "", timezone: str = "Etc/UTC") -> Deployment:
        """What the cluster brings to the run."""
        return Deployment(
            name=self.name,
            artifact_root=self.artifact_root,
            state_uri=self.state_uri,
            service_account=self.service_account,
            env=self.env,
            secrets=self.secret,
            volumes=self.volume,
            queue=self.queue,
            schedule=schedule,
            timezone=timezone,
        )


# Its flags stand beside those of the command, without a prefix.
Flow = Annotated[FlowOptions, tyro.conf.arg(name="")]


def compile_flow(flow: FlowOptions, output: Path, deployment: Deployment) -> None:
    """Writes what the target runs; the one way in which any command compiles.

    Raises:
        SettingsError: Naming everything that a cluster cannot run, with its remedy.
    """
    settings = flow.settings()
    if flow.target == "argo":
        argo.compile_to(output, settings, flow.profile, deployment)
        return
    # Imported here: kfp takes two seconds that no other command should pay.
    from pipelines.kubeflow import compile_to

    compile_to(output, settings, flow.profile, deployment)
