"""What a cluster brings to a run and no flow knows: where artifacts and state lie, accounts, secrets, a schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from components.shared.durable.storage import is_remote

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """How one flow is put on one cluster.

    Attributes:
        name: Of the pipeline or WorkflowTemplate; one a corpus.
        artifact_root: Folder in a bucket for what tasks hand each other (Argo; Kubeflow has a root of its own).
        state_uri: Folder in a bucket for journals and training state, which a lost pod goes on from.
        service_account: Of the tasks' pods.
        env: Variables of every task, as NAME=VALUE.
        secrets: Variables from Secrets, as SECRET:NAME or SECRET:NAME=KEY, several after commas.
        volumes: Claims that every task may read, as CLAIM:/folder.
        queue: LocalQueue of Kueue that the pods wait in.
        schedule: When it runs by itself, in cron's five fields.
        timezone: Of the schedule.
    """

    name: str = "retriever"
    artifact_root: str = ""
    state_uri: str = ""
    service_account: str = ""
    env: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    queue: str = ""
    schedule: str = ""
    timezone: str = "Etc/UTC"

    @property
    def records_uri(self) -> str:
        """Folder of the records of runs and failures; empty where there is no place for state."""
        return f"{self.state_uri.rstrip('/')}/records" if self.state_uri else ""

    def problems(self) -> Iterator[str]:
        """One line for everything that is not written as it must be."""
        if not _NAME.fullmatch(self.name):
            yield f"name {self.name!r}: no name for Kubernetes; use small letters, digits and hyphens, at most 52"
        for name, uri in (("artifact-root", self.artifact_root), ("state-uri", self.state_uri)):
            if uri and not is_remote(uri):
                yield f"{name} {uri}: no pod finds this; name a folder in a bucket (--{name} s3://bucket/folder)"
        if self.schedule and len(self.schedule.split()) != 5:
            yield f"schedule {self.schedule!r}: write cron's five fields, such as '0 3 * * 1'"
        yield from self._entry_problems()

    def _entry_problems(self) -> Iterator[str]:
        for entry in self.env:
            if not _VARIABLE.fullmatch(entry.partition("=")[0]) or "=" not in entry:
                yield f"env {entry!r}: write NAME=VALUE"
        for entry in self.secrets:
            secret, colon, variables = entry.partition(":")
            names = [variable.partition("=")[0] for variable in variables.split(",")]
            if not (secret and colon) or not all(map(_VARIABLE.fullmatch, names)):
                yield f"secret {entry!r}: write SECRET:NAME=KEY, such as s3:AWS_ACCESS_KEY_ID=accesskey"
        for entry in self.volumes:
            if not re.fullmatch(r"[a-z0-9.-]+:/[^:]+", entry):
                yield f"volume {entry!r}: write CLAIM:/folder, such as corpus:/corpus"

    def variables(self) -> dict[str, str]:
        """Name -> value of the plain variables."""
        return {name: value for name, _, value in (entry.partition("=") for entry in self.env)}

    def secret_variables(self) -> Iterator[tuple[str, str, str]]:
        """Name of a variable, its Secret, and the key in it."""
        for entry in self.secrets:
            secret, _, variables = entry.partition(":")
            for variable in variables.split(","):
                name, _, key = variable.partition("=")
                yield name, secret, key or name

    def claims(self) -> dict[str, str]:
        """Folder in a pod -> the PersistentVolumeClaim that is mounted there, read-only."""
        return {folder: claim for claim, _, folder in (entry.partition(":") for entry in self.volumes)}
