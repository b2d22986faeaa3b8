"""A namespace with the store and the server of the overlay kind, and what the cluster has (README.md)."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.shared.durable import storage
from tests.cluster.argo import argo_namespace
from tests.cluster.given_cluster import Site, cannot
from tests.cluster.images import has_image
from tests.cluster.kube import Kube, until
from tests.cluster.load_pod import SCRIPT, client_pod
from tests.cluster.overlays import write_overlay
from tests.cluster.volumes import folder_on_the_node, has_default_storage, node_volume
from tests.components.serve.served import write_sources

STORE_KEY, STORE_SECRET = "cluster-tests", "secret-of-the-cluster-tests"
API_KEY = "0123456789abcdef-of-the-cluster-tests"


@pytest.fixture(scope="session")
def site() -> Site:
    return Site.from_environment()


@pytest.fixture(scope="session")
def kube() -> Kube:
    """The cluster, in its default namespace."""
    if not os.environ.get("KUBECONFIG"):
        cannot("KUBECONFIG names no cluster; see tests/cluster/README.md")
    if shutil.which("kubectl") is None:
        cannot("kubectl is not installed")
    cluster = Kube("default")
    answer = cluster.attempt("get", "--raw", "/readyz", seconds=30)
    if answer.returncode:
        cannot(f"the cluster of KUBECONFIG does not answer: {answer.stderr.strip()[-300:]}")
    return cluster


@contextmanager
def new_namespace(kube: Kube, name: str, labels: Mapping[str, str] | None = None) -> Iterator[Kube]:
    """A namespace that goes with the block, and all in it."""
    # Created and not applied: an annotation of kubectl's would be in the way of a server-side apply.
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}})
    try:
        yield Kube(name)
    finally:
        kube.run("delete", "namespace", name, "--timeout=120s", seconds=150)


@pytest.fixture(scope="session")
def serve_image(kube: Kube, site: Site) -> str:
    image = site.image("serve")
    if not has_image(kube, image):
        cannot(f"the cluster has no image {image}; load it, or set RETRIEVER_CLUSTER_REGISTRY and _TAG")
    return image


@dataclass(frozen=True)
class Store:
    """The S3 store of the overlay kind; `outside` is its address on this machine."""

    inside: str
    outside: str


@pytest.fixture(scope="session")
def namespace(kube: Kube) -> str:
    """Where everything of this session goes."""
    return f"retriever-test-{uuid.uuid4().hex[:6]}"


@pytest.fixture(scope="session")
def store(kube: Kube, site: Site, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """k8s/overlays/kind/pipeline in an empty namespace, applied as README says, with the Secret that it asks for."""
    own = Kube(namespace)
    folder = write_overlay(tmp_path_factory.mktemp("store"), "overlays/kind/pipeline", site, namespace=namespace)
    with ExitStack() as stack:
        give_volume(kube, stack, namespace, site.python_image)
        own.run("apply", f"--kustomize={folder}")
        stack.callback(kube.run, "delete", "namespace", namespace, "--timeout=120s", seconds=150)
        inside = f"http://retriever-store.{namespace}.svc:8333"
        own.secret("retriever-store", **store_variables(inside))
        wait_for_store(own)
        address = stack.enter_context(own.forwarded("service/retriever-store", 8333))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in store_variables(address).items():
            patch.setenv(name, value)
        until(60, "the store's bucket", _bucket_answers)
        yield Store(inside, address)


def wait_for_store(kube: Kube) -> None:
    """Waits for the store's pod: longer than the five minutes after which a scheduler looks again at what it missed."""
    kube.run("rollout", "status", "statefulset/retriever-store", "--timeout=400s", seconds=430)


def store_variables(endpoint: str) -> dict[str, str]:
    """What the Secret retriever-store holds."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": STORE_KEY,
        "AWS_SECRET_ACCESS_KEY": STORE_SECRET,
    }


def _bucket_answers() -> bool:
    try:
        storage.write_bytes("s3://retriever/started", b"yes")
    except (OSError, ValueError):
        return False
    return True


def give_volume(kube: Kube, stack: ExitStack, namespace: str, image: str) -> None:
    """A volume for the claim of a namespace's store, where no StorageClass makes one."""
    if has_default_storage(kube):
        return
    setup = stack.enter_context(new_namespace(kube, f"{namespace}-setup"))
    path = stack.enter_context(folder_on_the_node(setup, namespace, image))
    name = f"{namespace}-store"
    kube.apply(node_volume(name, path, claim=(namespace, "data-retriever-store-0"), mode="ReadWriteOnce"))
    # Ready for its claim before that is made, so that the pod need not wait for the two to meet.
    until(60, f"volume {name}", lambda: kube.get("persistentvolume", name)["status"].get("phase") == "Available")
    stack.callback(kube.run, "delete", "persistentvolume", name)


@pytest.fixture(scope="session")
def argo(kube: Kube, site: Site) -> Iterator[Kube]:
    """Argo's namespace, ready for the tasks."""
    with argo_namespace(kube, site) as own:
        yield own


@dataclass(frozen=True)
class Server:
    """The deployed server: its namespace, and the overlay that made it."""

    kube: Kube
    folder: Path
    key: str


@pytest.fixture(scope="session")
def artifacts(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Release -> variables of the server; two releases, each under addresses of its own."""
    releases: dict[str, dict[str, str]] = {}
    for seed, release in enumerate(("first", "second")):
        folder = tmp_path_factory.mktemp(release)
        write_sources(folder, seed=seed)
        for name in ("encoder", "index", "dataset"):
            uri = f"s3://retriever/served/{release}/{name}"
            storage.publish(folder / name, uri)
            releases.setdefault(release, {})[f"{name.upper()}_URI"] = uri
    return releases


@pytest.fixture(scope="session")
def server(
    store: Store,
    site: Site,
    serve_image: str,
    namespace: str,
    artifacts: dict[str, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """k8s/overlays/kind with its API key, rolled out and ready."""
    own = Kube(namespace)
    own.secret("retriever-serve-api-keys", keys=f"cluster-tests {API_KEY}\n")
    folder = tmp_path_factory.mktemp("server")
    write_overlay(folder, "overlays/kind", site, namespace=namespace, artifacts=artifacts["first"])
    own.run("apply", f"--kustomize={folder}")
    roll_out(own)
    return Server(own, folder, API_KEY)


@pytest.fixture(scope="session")
def script(server: Server) -> str:
    """Name of the ConfigMap that holds the client."""
    server.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "load"},
            "data": {"load.py": SCRIPT.read_text()},
        }
    )
    return "load"


@pytest.fixture
def client(server: Server, serve_image: str, script: str) -> Iterator[Callable[..., str]]:
    """Starts a client pod; its name."""
    names: list[str] = []

    def start(**load: float) -> str:
        name = f"load-{len(names)}-{time.time_ns() % 1_000_000}"
        server.kube.apply(client_pod(name, serve_image, script, server.key, **load))  # type: ignore[arg-type]
        names.append(name)
        return name

    yield start
    for name in names:
        server.kube.run("delete", "pod", name, "--grace-period=1", "--ignore-not-found")


def roll_out(kube: Kube, seconds: int = 180) -> None:
    """Waits for the server's rollout; says what the pods say where it does not come."""
    done = kube.attempt(
        "rollout", "status", "deployment/retriever-serve", f"--timeout={seconds}s", seconds=seconds + 30
    )
    if done.returncode:
        pods = kube.items("pod", selector="app.kubernetes.io/name=retriever-serve")
        states = [pod["status"].get("containerStatuses", pod["status"]) for pod in pods]
        logs = kube.attempt("logs", "deployment/retriever-serve", "--tail=5").stdout
        raise AssertionError(f"{done.stderr.strip()}: {states}\n{logs}")


@pytest.fixture(scope="session", autouse=True)
def _no_proxy() -> Iterator[None]:
    """The addresses of forwarded ports are this machine's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


_figures: list[str] = []


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a measured figure, which is shown at the end of the session."""
    return lambda line: _figures.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what was measured."""
    if _figures:
        terminalreporter.section("measured on this cluster")
        for line in _figures:
            terminalreporter.write_line(line)
