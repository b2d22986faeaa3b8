"""One namespace of a cluster through the Kubernetes API: objects got, put and listed, and what a refusal means.

A missing object is None; a missing namespace and a missing kind are refused with their remedy, which the API tells
apart by its words alone: all three are 404.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from components.shared.contract.ending import TransientError
from pipelines.operate.refusing import REQUEST_SECONDS, Api, asked, words_of

Object = dict[str, Any]
Result = TypeVar("Result")

GROUP, VERSION = "argoproj.io", "v1alpha1"
_IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NO_NAMESPACE = re.compile(r'namespaces "[^"]*" not found')


class Namespace:
    """A namespace, with the rights of whoever calls."""

    def __init__(self, name: str = "", context: str = "") -> None:
        """Reads the kubeconfig, or in a pod the account's token; without a name the namespace is theirs.

        Raises:
            ValueError: Where neither is there.
        """
        configuration, self.name = _configured(name, context)
        connection = client.ApiClient(configuration)
        self._objects, self._core = client.CustomObjectsApi(connection), client.CoreV1Api(connection)
        self._api = Api(
            where=f"{configuration.host}, namespace {self.name}",
            unreachable="see whether the cluster runs and KUBECONFIG (or --kube-context) names the right one",
            credentials="log in again, or see whether KUBECONFIG (or --kube-context) names the right user",
            rights=f"ask for a Role in namespace {self.name} that may get, list, create and update workflows, "
            "workflowtemplates and cronworkflows of argoproj.io, or name another by --namespace",
        )

    def get(self, plural: str, name: str) -> Object | None:
        """An object; None where there is none."""
        return self._ask(
            f"get {plural} {name}",
            lambda: self._objects.get_namespaced_custom_object(
                GROUP, VERSION, self.name, plural, name, _request_timeout=REQUEST_SECONDS
            ),
        )

    def items(self, plural: str, selector: str) -> list[Object]:
        """The objects with these labels.

        Raises:
            ValueError: Where there is no such namespace; the API itself would list nothing.
        """
        listed = self._ask(
            f"list {plural}",
            lambda: self._objects.list_namespaced_custom_object(
                GROUP, VERSION, self.name, plural, label_selector=selector, _request_timeout=REQUEST_SECONDS
            ),
        )
        items = list(listed["items"]) if listed else []
        if not items:
            self._look_for_namespace()
        return items

    def create(self, plural: str, body: Object) -> Object | None:
        """The new object; None where there is one of this name already."""
        try:
            made = self._ask(
                f"create {plural} {body['metadata']['name']}",
                lambda: self._objects.create_namespaced_custom_object(
                    GROUP, VERSION, self.name, plural, body, _request_timeout=REQUEST_SECONDS
                ),
            )
        except ApiException as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return None
        assert made is not None, "what was created is there"
        return made

    def put(self, plural: str, body: Object) -> None:
        """Creates the object, or replaces the one of its name; what others wrote into its metadata stays.

        Raises:
            TransientError: Where somebody else changed it in the same moment.
        """
        name = body["metadata"]["name"]
        there = self.get(plural, name)
        if there is None:
            if self.create(plural, body) is not None:
                return
            there = self.get(plural, name) or {"metadata": {}}
        metadata = {**there["metadata"]}
        metadata["labels"] = {**(metadata.get("labels") or {}), **(body["metadata"].get("labels") or {})}
        try:
            self._ask(
                f"replace {plural} {name}",
                lambda: self._objects.replace_namespaced_custom_object(
                    GROUP,
                    VERSION,
                    self.name,
                    plural,
                    name,
                    {**body, "metadata": metadata},
                    _request_timeout=REQUEST_SECONDS,
                ),
            )
        except ApiException as error:
            raise TransientError(
                f"{self._api.where}: {plural} {name} was changed by somebody else at the same time "
                f"({words_of(error)}); run the same command again"
            ) from error

    def last_lines(self, pod: str, num_lines: int) -> str:
        """The end of what a pod's own container wrote; empty where that cannot be read, which is no failure."""
        from urllib3.exceptions import HTTPError

        try:
            said = self._core.read_namespaced_pod_log(
                pod, self.name, container="main", tail_lines=num_lines, _request_timeout=REQUEST_SECONDS
            )
        except (ApiException, HTTPError):
            return ""
        return str(said)

    def _ask(self, what: str, call: Callable[[], Any]) -> Object | None:
        """The object that a call gives; None where it is missing."""
        try:
            answer = asked(self._api, what, call, ApiException)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            words = words_of(error)
            if _NO_NAMESPACE.search(words):
                raise ValueError(self._no_namespace()) from error
            if "page not found" in words or "could not find the requested resource" in words:
                raise ValueError(
                    f"{self._api.where}: {what}: the cluster knows no {GROUP}/{VERSION} ({words}); install Argo "
                    "Workflows with its CustomResourceDefinitions, or name another cluster"
                ) from error
            return None
        return dict(answer)

    def _look_for_namespace(self) -> None:
        try:
            asked(
                self._api,
                f"get namespace {self.name}",
                lambda: self._core.read_namespace(self.name, _request_timeout=REQUEST_SECONDS),
                ApiException,
            )
        except ApiException as error:
            raise ValueError(self._no_namespace()) from error
        except ValueError:
            # Whoever may list workflows need not have the right to look at the namespace.
            return

    def _no_namespace(self) -> str:
        return (
            f"{self._api.where}: there is no such namespace; create it (kubectl create namespace {self.name}), or name "
            "another by --namespace"
        )


def _configured(namespace: str, context: str) -> tuple[client.Configuration, str]:
    """How to reach the cluster, and the namespace: the one asked for, else that of kubeconfig or pod, else default."""
    configuration = client.Configuration()
    try:
        if _IN_POD.exists() and not os.environ.get("KUBECONFIG") and not context:
            config.load_incluster_config(client_configuration=configuration)
            return configuration, namespace or _IN_POD.read_text().strip()
        # Named here: the library reads the variable when it is imported, and never again.
        file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        config.load_kube_config(file, context=context or None, client_configuration=configuration)
        contexts, active = config.list_kube_config_contexts(file)
    except (ConfigException, OSError) as error:
        raise ValueError(
            f"no cluster: {error}; set KUBECONFIG to the cluster's file, or --kube-context to one of its contexts"
        ) from error
    chosen: Mapping[str, Any] = next((one for one in contexts if one["name"] == context), active)
    return configuration, namespace or chosen["context"].get("namespace") or "default"
