"""Runs on Kubeflow Pipelines, through its own client."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kfp_server_api
from kfp import client as kfp_client

from components.shared.hashing import file_digest
from pipelines.operate.kubeflow_tasks import run_of
from pipelines.operate.refusing import Api, asked, words_of
from pipelines.operate.runs import Run, Submitted, TaskRun

# What its users and its in-cluster credentials call it too.
ENDPOINT_VARIABLE, TOKEN_VARIABLE = "KF_PIPELINES_ENDPOINT", "RETRIEVER_KFP_TOKEN"
_NEWEST_FIRST = "created_at desc"
_VERSION_CHARACTERS = 10


class _Client(kfp_client.Client):  # type: ignore[misc]
    """Kubeflow's client, whose first question fails at once and not after five attempts and five tracebacks."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ANN401, ARG002 as the client declares it
        return self._healthz_api.healthz_service_get_healthz()


class Kubeflow:
    """A server of Kubeflow Pipelines."""

    def __init__(self, host: str = "", namespace: str = "", context: str = "") -> None:
        """Speaks to the server at `host`, else that of KF_PIPELINES_ENDPOINT, else that of kubeconfig or pod.

        Raises:
            TransientError: Where it does not answer.
            ValueError: Where it refuses the credentials.
        """
        host = host or os.environ.get(ENDPOINT_VARIABLE, "")
        self._api = Api(
            where=f"Kubeflow Pipelines at {host or 'the cluster of KUBECONFIG'}",
            unreachable="see whether it runs, and whether --host names it as this machine reaches it (kubectl "
            "--namespace kubeflow port-forward service/ml-pipeline 8888, then --host http://127.0.0.1:8888)",
            credentials=f"set {TOKEN_VARIABLE} to a token that it accepts",
            rights="ask for the right to create pipelines, runs and recurring runs there, or name the namespace of "
            "your profile by --namespace",
        )
        # Where there is one, it is asked whether it has many users.
        self._client = self._ask("greet", lambda: self._connected(host, namespace, context))

    @staticmethod
    def _connected(host: str, namespace: str, context: str) -> _Client:
        with warnings.catch_warnings():
            # It says of itself that it is new.
            warnings.simplefilter("ignore")
            return _Client(
                host=host or None,
                namespace=namespace or "kubeflow",
                existing_token=os.environ.get(TOKEN_VARIABLE) or None,
                kube_context=context or None,
            )

    def submit(self, compiled: Path, flow: str, name: str, *, again: bool, arguments: Mapping[str, Any]) -> Submitted:
        """Uploads the pipeline as a version named by its content, and starts a run of it."""
        known = self._named(name)
        if known and not again:
            return Submitted(self._whole(known[0]), is_new=False)
        pipeline, version = self._uploaded(compiled, flow)
        chosen = name
        if known:
            chosen = next(one for number in itertools.count(2) if not self._named(one := f"{name}-{number}"))
        run = self._ask(
            f"start run {chosen}",
            lambda: self._client.run_pipeline(
                self._experiment(flow), chosen, params=dict(arguments), pipeline_id=pipeline, version_id=version
            ),
        )
        return Submitted(run_of(run), is_new=True)

    def schedule(self, compiled: Path, flow: str, cron: str, *, replace: bool, arguments: Mapping[str, Any]) -> str:
        """Makes the recurring run: one at a time, and what was due while the server was away is left out.

        Raises:
            ValueError: Where there is one of this name already that is not to be replaced.
        """
        listed = self._ask("list recurring runs", lambda: self._recurring(flow))
        if listed and not replace:
            raise ValueError(
                f"{self._api.where}: recurring run {flow} is there already, with {_schedules(listed)}; add --replace "
                "to take its place, or give the flow another --name"
            )
        pipeline, version = self._uploaded(compiled, flow)
        experiment = self._experiment(flow)
        made = self._ask(
            f"create recurring run {flow}",
            lambda: self._client.create_recurring_run(
                experiment,
                flow,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(arguments),
                pipeline_id=pipeline,
                version_id=version,
            ),
        )
        # The new one first: a failure between leaves two, which the next --replace mends, and never none.
        for one in listed:
            if one.recurring_run_id != made.recurring_run_id:
                self._ask(
                    f"delete recurring run {one.recurring_run_id}",
                    functools.partial(self._client.delete_recurring_run, one.recurring_run_id),
                )
        return f"it replaces {_schedules(listed)}" if listed else "it is new"

    def runs(self, flow: str, limit: int) -> list[Run]:
        """The newest runs of a flow's experiment, or of all."""
        experiment = self._experiment_of(flow) if flow else None
        if flow and experiment is None:
            return []
        answer = self._ask(
            "list runs",
            lambda: self._client.list_runs(page_size=limit, sort_by=_NEWEST_FIRST, experiment_id=experiment),
        )
        return [self._whole(run) for run in answer.runs or ()]

    def run(self, name: str) -> Run:
        """The newest run of this name.

        Raises:
            ValueError: Where there is none.
        """
        known = self._named(name)
        if not known:
            raise ValueError(f"{self._api.where}: there is no run {name}; `retriever status` lists them")
        return self._whole(known[0])

    def retry(self, run: Run) -> Run:
        """Has Kubeflow run the failed tasks again, in the same run."""
        self._ask(f"retry run {run.name}", lambda: self._client._run_api.run_service_retry_run(run.identifier))
        return self._got(run.identifier)

    def progress(self, task: TaskRun) -> str:
        """Nothing: this API says of a running task only that it runs."""
        del task
        return ""

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 kfp_server_api ships no types
        def quietly() -> Any:  # noqa: ANN401
            # The client prints addresses of pages that a script would read as our answer.
            with contextlib.redirect_stdout(sys.stderr):
                return call()

        try:
            return asked(self._api, what, quietly, kfp_server_api.ApiException)
        except kfp_server_api.ApiException as error:
            hint = (
                "see whether --host names the API of Kubeflow Pipelines 2, and --namespace one that there is"
                if error.status == HTTPStatus.NOT_FOUND
                else "somebody made or changed it at the same time; run the same command again"
            )
            raise ValueError(f"{self._api.where}: {what}: {words_of(error)}; {hint}") from error

    def _named(self, name: str) -> list[Any]:
        """The runs of this name, newest first."""
        answer = self._ask(
            f"look for run {name}",
            lambda: self._client.list_runs(page_size=20, sort_by=_NEWEST_FIRST, filter=_display_name(name)),
        )
        return list(answer.runs or ())

    def _whole(self, run: Any) -> Run:  # noqa: ANN401
        """The run with its tasks, which a list need not have."""
        has_tasks = run.run_details is not None and run.run_details.task_details
        return run_of(run) if has_tasks else self._got(run.run_id)

    def _got(self, identifier: str) -> Run:
        return run_of(self._ask(f"get run {identifier}", lambda: self._client.get_run(identifier)))

    def _experiment(self, flow: str) -> str:
        """The identifier of the flow's experiment, which is made where there is none."""
        known = self._experiment_of(flow)
        if known is None:
            known = self._ask(f"create experiment {flow}", lambda: self._client.create_experiment(flow)).experiment_id
        return str(known)

    def _experiment_of(self, flow: str) -> str | None:
        answer = self._ask(
            f"look for experiment {flow}",
            lambda: self._client.list_experiments(
                filter=_display_name(flow), namespace=self._client.get_user_namespace() or None
            ),
        )
        listed = list(answer.experiments or ())
        return str(listed[0].experiment_id) if listed else None

    def _recurring(self, flow: str) -> list[Any]:
        namespace = self._client.get_user_namespace() or None
        answer = self._client.list_recurring_runs(page_size=100, namespace=namespace, filter=_display_name(flow))
        return list(answer.recurring_runs or ())

    def _uploaded(self, compiled: Path, flow: str) -> tuple[str, str]:
        """Identifiers of the pipeline and of the version that holds this file; the same file is uploaded once."""
        version = f"{flow}-{file_digest(compiled)[:_VERSION_CHARACTERS]}"
        pipeline = self._ask(f"look for pipeline {flow}", lambda: self._client.get_pipeline_id(flow))
        if pipeline is None:
            namespace = self._client.get_user_namespace() or None
            pipeline = self._ask(
                f"upload pipeline {flow}",
                lambda: self._client.upload_pipeline(str(compiled), pipeline_name=flow, namespace=namespace),
            ).pipeline_id
        listed = self._ask(
            f"list versions of pipeline {flow}",
            lambda: self._client.list_pipeline_versions(pipeline, filter=_display_name(version)),
        )
        versions = list(listed.pipeline_versions or ())
        if not versions:
            versions = [
                self._ask(
                    f"upload version {version}",
                    lambda: self._client.upload_pipeline_version(str(compiled), version, pipeline_id=pipeline),
                )
            ]
        return str(pipeline), str(versions[0].pipeline_version_id)


def _display_name(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _schedules(recurring: list[Any]) -> str:
    crons = [one.trigger.cron_schedule.cron for one in recurring if one.trigger and one.trigger.cron_schedule]
    return f"schedule '{', '.join(crons) or 'every so many seconds'}'"
