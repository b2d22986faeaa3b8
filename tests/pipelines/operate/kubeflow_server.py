"""The endpoints of Kubeflow Pipelines that runs need: healthz, experiments, pipelines, runs, recurring runs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.pipelines.operate.answering import Answer, Asked, Object

_START = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
_RUN = re.compile(r"/runs/([^/:]+)(:retry)?")
_VERSIONS = re.compile(r"/pipelines/([^/]+)/versions")
_IDENTIFIERS = {"experiments": "experiment_id", "pipelines": "pipeline_id", "runs": "run_id"} | {
    "recurringruns": "recurring_run_id",
    "pipeline_versions": "pipeline_version_id",
}


class KubeflowServer:
    """A server for one user; whoever sets `run_details` is its controller."""

    def __init__(self) -> None:
        self.token = ""
        self.forbidden: set[str] = set()
        self.broken = 0
        self.kept: dict[str, dict[str, Object]] = {name: {} for name in _IDENTIFIERS}
        self.retried: list[str] = []
        self.requests: list[Asked] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)

    def answer(self, asked: Asked, authorization: str) -> Answer:
        self.meanwhile()
        if self.broken > 0:
            self.broken -= 1
            return _error(503, "upstream connect error")
        if self.token and authorization != f"Bearer {self.token}":
            return _error(401, "Request header error: there is no user identity header")
        path = asked.path.removeprefix("/apis/v2beta1")
        if f"{asked.method} {path}" in self.forbidden:
            return _error(403, "User 'ann' is not authorized with reason: none")
        if path == "/healthz":
            return Answer(200, {"multi_user": False})
        if path.startswith("/pipelines/upload"):
            return self._uploaded(path, asked)
        if match := _VERSIONS.fullmatch(path):
            return self._listed("pipeline_versions", asked, pipeline_id=match[1])
        if match := _RUN.fullmatch(path):
            return self._of_run(match[1], is_retry=bool(match[2]))
        kind, _, identifier = path.strip("/").partition("/")
        if asked.method == "DELETE":
            del self.kept[kind][identifier]
            return Answer(200, {})
        if asked.method == "POST":
            return Answer(200, self.put(kind, json.loads(asked.body)))
        return self._listed(kind, asked)

    def put(self, kind: str, body: Object) -> Object:
        number = next(self._numbers)
        created = (_START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
        own = {_IDENTIFIERS[kind]: f"{kind}-{number}", "created_at": created}
        if kind == "runs":
            # As the real one: a run that works has the year 1970 for its end.
            own |= {"state": "PENDING", "finished_at": "1970-01-01T00:00:00Z"}
        self.kept[kind][own[_IDENTIFIERS[kind]]] = {**body, **own}
        return self.kept[kind][own[_IDENTIFIERS[kind]]]

    def _of_run(self, identifier: str, *, is_retry: bool) -> Answer:
        if identifier not in self.kept["runs"]:
            return _error(404, f"Run {identifier} not found")
        if is_retry:
            self.retried.append(identifier)
            self.kept["runs"][identifier] |= {"state": "RUNNING", "finished_at": "1970-01-01T00:00:00Z"}
            return Answer(200, {})
        return Answer(200, self.kept["runs"][identifier])

    def _uploaded(self, path: str, asked: Asked) -> Answer:
        named = {"display_name": asked.query["name"]}
        if path.endswith("upload_version"):
            return Answer(200, self.put("pipeline_versions", {**named, "pipeline_id": asked.query["pipelineid"]}))
        assert b"pipelineInfo" in asked.body
        return Answer(200, self.put("pipelines", named))

    def _listed(self, kind: str, asked: Asked, **wanted: str) -> Answer:
        for predicate in json.loads(asked.query.get("filter", "{}")).get("predicates", ()):
            assert predicate["operation"] in (1, "EQUALS")
            wanted[predicate["key"]] = predicate["stringValue"]
        if "experiment_id" in asked.query:
            wanted["experiment_id"] = asked.query["experiment_id"]
        chosen = [
            one
            for one in reversed(self.kept[kind].values())
            if all(one.get(name) == value for name, value in wanted.items())
        ]
        name = "recurringRuns" if kind == "recurringruns" else kind
        chosen = chosen[: int(asked.query.get("page_size", 20))]
        # A list says nothing of the tasks.
        bare = [{key: value for key, value in one.items() if key != "run_details"} for one in chosen]
        return Answer(200, {name: bare, "total_size": len(bare)})


def _error(code: int, message: str) -> Answer:
    return Answer(code, {"error": message, "code": code, "message": message})


def detail(identifier: str, name: str, state: str, parent: str = "", **more: object) -> Object:
    """A task of a run as the API tells it."""
    ended = {} if state in ("RUNNING", "PENDING") else {"end_time": "2026-11-27T03:00:40Z"}
    times = {"create_time": "2026-11-27T03:00:10Z", "start_time": "2026-11-27T03:00:10Z", **ended}
    above = {"parent_task_id": parent} if parent else {}
    return {"task_id": identifier, "display_name": name, "state": state, **times, **above, **more}


def failure(message: str) -> Object:
    return {"code": 2, "message": message}
