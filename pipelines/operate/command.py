"""`retriever compile | submit | schedule | status | watch`: what a person reads, and the exit code a script reads.

Exit codes: 0 done, for watch: the run succeeded; 1 the watched run failed; 2 a setting or flag cannot work; 65 what a
person can mend (credentials, rights, a namespace, Argo itself, a bucket or a run that is not there); 75 the API or a
store does not answer, and may later.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from components.shared.launch import EXIT_OK
from pipelines.operate.figures import figures
from pipelines.operate.naming import refuse_missing_bucket, run_name
from pipelines.operate.options import Flow, FlowOptions, Target, compile_flow
from pipelines.operate.registry import refuse_missing_images
from pipelines.operate.runs import Platform, Run, table
from pipelines.operate.watching import View, follow, summary
from pipelines.settings import SettingsError, missing

# The command went well and the run did not.
EXIT_RUN_FAILED = 1
_KFP_FIELDS, _ARGO_FIELDS = 6, 5
_UTC = "Etc/UTC"


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where runs are."""

    namespace: str = ""
    """Namespace of the runs; empty: that of the kubeconfig's context (argo), or the server's only one (kfp)."""
    host: str = ""
    """Address of Kubeflow Pipelines; empty: KF_PIPELINES_ENDPOINT, or the cluster of KUBECONFIG (kfp)."""
    kube_context: str = ""
    """Context of the kubeconfig; empty: the current one."""


Cluster = Annotated[ClusterOptions, tyro.conf.arg(name="")]


def compile_pipeline(
    flow: Flow = FlowOptions(),
    output: Path = Path("retriever.yaml"),
    schedule: str = "",
    timezone: str = _UTC,
) -> int:
    """Compiles the flow of a parameter file for Kubeflow Pipelines or for Argo Workflows.

    Args:
        flow: What is compiled.
        output: Where the YAML goes: a pipeline to upload (kfp), or what kubectl applies (argo).
        schedule: When it runs by itself (argo), in cron's five fields, such as '0 3 * * 1'.
        timezone: Time zone of the schedule.
    """
    compile_flow(flow, output, flow.deployment(schedule, timezone))
    print(f"compiled {flow.params} for {flow.target}, {flow.profile}: {output}")
    return EXIT_OK


def submit(
    flow: Flow = FlowOptions(),
    cluster: Cluster = ClusterOptions(),
    again: bool = False,
    corpus_version: str = "",
) -> int:
    """Compiles the flow, puts it on the cluster and starts a run; the same corpus and settings are run once.

    The run is named by the flow and a digest of corpus, settings and images. Where there is such a run already, its
    name and state are said and nothing is started.

    Args:
        flow: What is run.
        cluster: Where.
        again: Start another run although there is one of the same corpus and settings.
        corpus_version: What tells this state of the corpus from others, where this machine cannot read its bucket;
            empty: the content is looked at, by the store's own checksums.
    """
    settings, deployment = flow.settings(), flow.deployment()
    _refuse_unfinished(flow)
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "retriever.yaml"
        # First: what cannot be compiled needs no cluster and no bucket to say so.
        compile_flow(flow, compiled, deployment)
        refuse_missing_images(settings, flow.profile)
        if not corpus_version:
            refuse_missing_bucket(deployment.artifact_root or deployment.state_uri)
        name = run_name(settings, deployment, corpus_version=corpus_version)
        run, is_new = platform_of(flow.target, cluster).submit(
            compiled, flow.name, name, again=again, arguments=_arguments(flow)
        )
    watch_it = f"watch it: retriever watch {run.name}{_flags(flow.target, cluster)}"
    print(f"started {run.name}\n{watch_it}" if is_new else _there_already(run, watch_it))
    return EXIT_OK


def schedule(
    cron: str,
    flow: Flow = FlowOptions(),
    cluster: Cluster = ClusterOptions(),
    timezone: str = _UTC,
    replace: bool = False,
) -> int:
    """Compiles the flow, puts it on the cluster and has it run by itself, one run at a time.

    Args:
        cron: When, in cron's five fields, such as '0 3 * * *'; Kubeflow's six, with seconds first, are taken too.
        flow: What is run.
        cluster: Where.
        timezone: Time zone of the schedule (argo; Kubeflow has one for all schedules, in its own configuration).
        replace: Take the place of a schedule of this name.
    """
    fields = _cron(cron, flow.target, timezone)
    _refuse_unfinished(flow)
    on_argo = flow.target == "argo"
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "retriever.yaml"
        compile_flow(flow, compiled, flow.deployment(fields if on_argo else "", timezone))
        before = platform_of(flow.target, cluster).schedule(
            compiled, flow.name, fields, replace=replace, arguments=_arguments(flow)
        )
    print(f"scheduled {flow.name} at '{fields}'{f' ({timezone})' if on_argo else ''}; {before}")
    return EXIT_OK


def status(
    cluster: Cluster = ClusterOptions(),
    target: Target = "kfp",
    name: str = "",
    limit: int = 20,
) -> int:
    """Lists runs, the newest first: state, start, duration, what works now, and why one failed.

    Args:
        cluster: Where.
        target: Kubeflow or Argo.
        name: Flow whose runs are listed; empty: all.
        limit: The most runs that are listed.
    """
    runs = platform_of(target, cluster).runs(name, limit)
    print(table(runs) if runs else f"no runs{f' of {name}' if name else ''}; `retriever submit` starts one")
    return EXIT_OK


def watch(
    name: tyro.conf.Positional[str],
    cluster: Cluster = ClusterOptions(),
    target: Target = "kfp",
    retry: int = 0,
    poll_seconds: float = 5.0,
) -> int:
    """Follows a run to its end and says what came of it; ends with 0 where it succeeded, with 1 where it failed.

    Leaving it does nothing to the run.

    Args:
        name: The run.
        cluster: Where.
        target: Kubeflow or Argo.
        retry: How often what failed is run again; finished tasks are not.
        poll_seconds: Pause between two looks.
    """
    run = follow(platform_of(target, cluster), name, num_retries=retry, poll_seconds=poll_seconds, view=View())
    print(summary(run, figures(run) if run.state == "succeeded" or target == "kfp" else ()))
    return EXIT_OK if run.state == "succeeded" else EXIT_RUN_FAILED


def platform_of(target: Target, cluster: ClusterOptions) -> Platform:
    """Argo or Kubeflow.

    Raises:
        ValueError: Where no cluster is named, or it refuses.
        TransientError: Where it does not answer.
    """
    # Imported here: their clients take seconds that no other command should pay.
    if target == "argo":
        from pipelines.operate.argo_runs import Argo
        from pipelines.operate.kubernetes_api import Namespace

        return Argo(Namespace(cluster.namespace, cluster.kube_context))
    from pipelines.operate.kubeflow_runs import Kubeflow

    return Kubeflow(cluster.host, cluster.namespace, cluster.kube_context)


def _refuse_unfinished(flow: FlowOptions) -> None:
    if problems := missing(flow.settings()):
        raise SettingsError([f"{problem}; nobody fills it in when the run starts" for problem in problems])


def _arguments(flow: FlowOptions) -> dict[str, Any]:
    """What a run is started with; Argo has it in the template."""
    if flow.target == "argo":
        return {}
    from pipelines.kubeflow import arguments

    return arguments(flow.settings(), flow.deployment())


def _cron(cron: str, target: Target, timezone: str) -> str:
    """The fields as the target reads them.

    Raises:
        SettingsError: Where they are none, or say what the target cannot.
    """
    fields = cron.split()
    if target == "argo":
        if len(fields) != _ARGO_FIELDS:
            raise SettingsError([f"cron {cron!r}: write cron's five fields, such as '0 3 * * *' (Argo has no seconds)"])
        return " ".join(fields)
    if timezone != _UTC:
        raise SettingsError(
            [f"timezone {timezone}: Kubeflow reads every schedule in the zone of its own configuration; leave it out"]
        )
    if len(fields) == _ARGO_FIELDS:
        fields = ["0", *fields]
    if len(fields) != _KFP_FIELDS:
        raise SettingsError(
            [f"cron {cron!r}: write cron's five fields, such as '0 3 * * *', or six with seconds first"]
        )
    return " ".join(fields)


def _there_already(run: Run, watch_it: str) -> str:
    state = f"{run.name} is there already: {run.state}"
    if run.state == "failed":
        return (
            f"{state} ({run.why()})\nrun again what failed: {watch_it.removeprefix('watch it: ')} --retry 1; or all of "
            "it: --again"
        )
    return f"{state}; the same corpus and settings are run once, --again runs them once more\n{watch_it}"


def _flags(target: Target, cluster: ClusterOptions) -> str:
    """Those that a second command needs to find what the first one made."""
    given = {
        "target": target if target != "kfp" else "",
        "namespace": cluster.namespace,
        "host": cluster.host,
        "kube-context": cluster.kube_context,
    }
    return "".join(f" --{name} {value}" for name, value in given.items() if value)
