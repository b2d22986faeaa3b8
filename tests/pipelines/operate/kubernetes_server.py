"""The few paths of the Kubernetes API that runs on Argo need, with a real API server's words (1.34) in refusals."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.pipelines.operate.answering import Answer, Asked, Object

_OBJECTS = re.compile(r"/apis/argoproj\.io/v1alpha1/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?")
_POD_LOG = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log")
_NAMESPACE = re.compile(r"/api/v1/namespaces/([^/]+)")
START = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)


class KubernetesServer:
    """A cluster with one namespace; Argo's controller is whoever sets `status`."""

    def __init__(self, namespace: str = "search") -> None:
        self.namespace = namespace
        self.has_argo = True
        self.token = ""
        # Verbs that the user may not do, such as POST workflows.
        self.forbidden: set[tuple[str, str]] = set()
        self.broken = 0
        self.objects: dict[tuple[str, str], Object] = {}
        self.logs: dict[str, str] = {}
        self.requests: list[Asked] = []
        # Called before every answer: what the controller does meanwhile.
        self.meanwhile: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)

    def of(self, plural: str) -> dict[str, Object]:
        return {name: one for (kind, name), one in self.objects.items() if kind == plural}

    def changes(self) -> list[tuple[str, str]]:
        """Method and plural of every request that changed something."""
        seen = [(one.method, _OBJECTS.fullmatch(one.path)) for one in self.requests if one.method != "GET"]
        return [(method, match[2]) for method, match in seen if match is not None]

    def answer(self, asked: Asked, authorization: str) -> Answer:
        self.meanwhile()
        if self.broken > 0:
            self.broken -= 1
            return _status(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if self.token and authorization != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if match := _OBJECTS.fullmatch(asked.path):
            return self._of_argo(asked, match[1], match[2], match[3] or "")
        if match := _POD_LOG.fullmatch(asked.path):
            assert asked.query["container"] == "main"
            if match[1] in self.logs:
                return Answer(200, self.logs[match[1]])
            return _status(404, "NotFound", f'pods "{match[1]}" not found')
        if match := _NAMESPACE.fullmatch(asked.path):
            if match[1] == self.namespace:
                return Answer(200, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": match[1]}})
            return _status(404, "NotFound", f'namespaces "{match[1]}" not found')
        raise AssertionError(f"nobody should ask for {asked.path}")

    def _of_argo(self, asked: Asked, namespace: str, plural: str, name: str) -> Answer:
        if not self.has_argo:
            return Answer(404, "404 page not found\n")
        if (asked.method, plural) in self.forbidden:
            words = f'{plural}.argoproj.io is forbidden: User "ann" cannot create resource "{plural}"'
            return _status(403, "Forbidden", words)
        body = json.loads(asked.body or b"{}")
        if asked.method == "POST":
            return self._create(plural, namespace, body)
        if not name:
            # As a real one does: of a namespace that there is not, nothing is listed.
            listed = self.of(plural) if namespace == self.namespace else {}
            return Answer(200, {"items": [one for one in listed.values() if _selected(one, asked.query)]})
        if (plural, name) not in self.objects or namespace != self.namespace:
            return _status(404, "NotFound", f'{plural}.argoproj.io "{name}" not found')
        if asked.method == "PUT":
            return self._replace(plural, name, body)
        return Answer(200, self.objects[plural, name])

    def _create(self, plural: str, namespace: str, body: Object) -> Answer:
        if namespace != self.namespace:
            return _status(404, "NotFound", f'namespaces "{namespace}" not found')
        name = body["metadata"]["name"]
        if (plural, name) in self.objects:
            return _status(409, "AlreadyExists", f'{plural}.argoproj.io "{name}" already exists')
        self.put(plural, body)
        return Answer(201, self.objects[plural, name])

    def _replace(self, plural: str, name: str, body: Object) -> Answer:
        if body["metadata"].get("resourceVersion") != self.objects[plural, name]["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified; please apply your changes")
        self.put(plural, body)
        return Answer(200, self.objects[plural, name])

    def put(self, plural: str, body: Object) -> None:
        """Keeps the object as the API does: numbered and with its time."""
        number = next(self._numbers)
        created = (START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {"creationTimestamp": created, **body["metadata"], "resourceVersion": str(number)}
        self.objects[plural, metadata["name"]] = {**body, "metadata": metadata}

    def kubeconfig(self, folder: Path, url: str, *, token: str = "") -> Path:
        """A file that names this cluster."""
        context = {"cluster": "here", "user": "ann", "namespace": self.namespace}
        path = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "ann", "user": {"token": token or self.token or "none"}}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }
        path.write_text(json.dumps(content))
        return path


def _selected(one: Object, query: dict[str, str]) -> bool:
    wanted = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
    labels = one["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted)


def _status(code: int, reason: str, message: str) -> Answer:
    return Answer(
        code,
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code},
    )
