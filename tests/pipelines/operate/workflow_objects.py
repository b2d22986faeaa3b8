"""Workflows as a real controller of Argo 4.0 wrote them, cut to what is read of them."""

from __future__ import annotations

from tests.pipelines.operate.answering import Object

REASON = "main: Error (exit code 65): mine: queries.tsv line 7: bad"


def node(identifier: str, name: str, phase: str, kind: str = "Pod", **more: object) -> Object:
    """A node of the workflow `squad`; its times are those of a run of half a minute."""
    return {
        "id": f"squad-{identifier}",
        "displayName": name,
        "name": f"squad.{name}",
        "phase": phase,
        "type": kind,
        "templateName": name.partition("(")[0],
        "startedAt": "2026-11-27T12:07:25Z",
        "finishedAt": None if phase in ("Running", "Pending") else "2026-11-27T12:07:35Z",
        **more,
    }


def status(phase: str, *nodes: Object, **more: object) -> Object:
    parameters = [{"name": "artifact_root", "value": "memory://runs/squad"}]
    return {
        "phase": phase,
        "startedAt": "2026-11-27T12:07:05Z",
        "finishedAt": None if phase in ("Running", "Pending", "") else "2026-11-27T12:07:35Z",
        "nodes": {one["id"]: one for one in nodes},
        "storedWorkflowTemplateSpec": {"arguments": {"parameters": parameters}},
        **more,
    }


def failed_in_a_shard() -> Object:
    """prepare came through, the second shard of mine did not and is not tried again, train was left out."""
    return status(
        "Failed",
        node("1", "squad", "Failed", "DAG", startedAt="2026-11-27T12:07:05Z"),
        node("2", "prepare", "Succeeded", startedAt="2026-11-27T12:07:05Z", finishedAt="2026-11-27T12:07:18Z"),
        node("3", "mine", "Failed", "TaskGroup"),
        node("4", "mine(0:0)", "Succeeded", "Retry", children=["squad-5"]),
        node("5", "mine(0:0)(0)", "Succeeded", nodeFlag={"retried": True}),
        node(
            "6",
            "mine(1:1)",
            "Failed",
            "Retry",
            children=["squad-7"],
            message="retryStrategy.expression evaluated to false",
        ),
        node("7", "mine(1:1)(0)", "Failed", message=REASON),
        node("8", "train", "Omitted", "Skipped", message="omitted: depends condition not met"),
    )


def working() -> Object:
    """mine works: its first attempt failed, its second has a pod."""
    return status(
        "Running",
        node("1", "squad", "Running", "DAG"),
        node("2", "prepare", "Succeeded", startedAt="2026-11-27T12:07:05Z", finishedAt="2026-11-27T12:07:18Z"),
        node("3", "mine", "Running", "Retry", children=["squad-4", "squad-5"]),
        node("4", "mine(0)", "Failed", message=REASON),
        node("5", "mine(1)", "Running", startedAt="2026-11-27T12:08:25Z"),
    )


def done() -> Object:
    return status(
        "Succeeded",
        node("2", "prepare", "Succeeded", startedAt="2026-11-27T12:07:05Z", finishedAt="2026-11-27T12:07:18Z"),
        node("4", "mine", "Succeeded", "Retry", children=["squad-5"]),
        node("5", "mine(0)", "Succeeded"),
    )
