"""The executor input and output of Kubeflow: which paths a job was given, and what it says of what it made.

`--executor-input` is the JSON that a container component passes as `{{$}}`. KFP's local runner collects output
artifacts from the executor output only; on a cluster the launcher uploads them anyway and takes their metadata from it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from components.shared.durable import storage

# Files of the artifact that its page on the platform shows, set by the runner for tasks that have them.
PAGE_VARIABLE, NOTE_VARIABLE = "RETRIEVER_PAGE", "RETRIEVER_NOTE"
# Where output parameters are left as files of their names, for a platform that has no executor input; and which ones.
OUTPUTS_VARIABLE, OUTPUT_NAMES_VARIABLE = "RETRIEVER_OUTPUTS", "RETRIEVER_OUTPUT_NAMES"
# Names of the manifest's numbers that the platform's page shows, separated by commas; empty: all of them.
SHOWN_VARIABLE = "RETRIEVER_SHOWN"

# Where KFP's launcher puts what it downloads; it tells nobody.
# Source: LocalPathForURI and retrieveArtifactPath in the launcher of Kubeflow Pipelines; kfp.dsl.Artifact.path.
_FOLDERS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
_OCI, _WORKSPACE = "oci://", "/kfp-workspace/.artifacts/"
_METRICS, _PAGES = "system.Metrics", {"system.HTML": PAGE_VARIABLE, "system.Markdown": NOTE_VARIABLE}


def read_executor_input(text: str) -> dict[str, Any]:
    """The executor input.

    Raises:
        ValueError: Where it is no JSON object.
    """
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"--executor-input is no JSON ({error}); Kubeflow puts it in place of {{{{$}}}}") from error
    if not isinstance(values, dict):
        raise ValueError("--executor-input is no JSON object; Kubeflow puts it in place of {{$}}")
    return values


def input_paths(executor_input: Mapping[str, Any], name: str) -> list[str]:
    """Paths of all artifacts of an input, in order; KFP's own placeholder renders only the first of a list.

    Raises:
        ValueError: Where the executor input has no such artifacts.
    """
    artifacts = executor_input.get("inputs", {}).get("artifacts", {})
    listed = artifacts.get(name, {}).get("artifacts", [])
    if not listed:
        raise ValueError(f"the executor input has no artifacts {name!r}; it has {sorted(artifacts)}")
    return [artifact_path(artifact) for artifact in listed]


def artifact_path(artifact: Mapping[str, Any]) -> str:
    """Where an artifact lies in the container; of a local run the address is the path itself."""
    if custom := artifact.get("customPath"):
        return str(custom)
    uri = str(artifact["uri"])
    path = next((folder + uri[len(scheme) :] for scheme, folder in _FOLDERS.items() if uri.startswith(scheme)), uri)
    if uri.startswith(_OCI):
        # The image's name is one folder; KFP's model images hold everything under models.
        path = f"/oci/{uri[len(_OCI) :].replace('/', '_')}/models"
    if (artifact.get("metadata") or {}).get("_kfp_workspace") is True:
        return _WORKSPACE + path.lstrip("/")
    return path


def write_executor_output(executor_input: Mapping[str, Any], output_uri: str, recorded: Mapping[str, Any]) -> None:
    """Writes what the platform reads of the job's outputs, whole or not at all.

    Every output artifact is named. The one at `output_uri` and the Metrics carry the numbers that the manifest recorded
    as metadata; HTML and Markdown outputs are a copy of the artifact's page, where the runner said which file that is.
    An output parameter is what the manifest recorded under its name.
    """
    outputs = executor_input["outputs"]
    metrics = {name: float(value) for name, value in recorded.items() if isinstance(value, int | float)}
    parameters = {name: str(recorded[name]) for name in outputs.get("parameters", {})}
    for name, value in parameters.items():
        # The launcher of a cluster reads the file, the local runner the executor output.
        storage.write_bytes(outputs["parameters"][name]["outputFile"], value.encode())
    artifacts = {}
    for name, listed in outputs.get("artifacts", {}).items():
        (first,) = listed["artifacts"]
        kind = (first.get("type") or {}).get("schemaTitle", "")
        if kind in _PAGES:
            _copy_page(os.environ.get(_PAGES[kind], ""), Path(output_uri), Path(artifact_path(first)))
        numbers = _shown(metrics) if kind == _METRICS else {} if kind in _PAGES else metrics
        artifacts[name] = {"artifacts": [{"name": first.get("name", name), "uri": first["uri"], "metadata": numbers}]}
    content = orjson.dumps({"artifacts": artifacts, "parameterValues": parameters}, option=orjson.OPT_SERIALIZE_NUMPY)
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(str(path), content)


def write_output_files(recorded: Mapping[str, Any]) -> None:
    """Leaves the output parameters that the runner asks for as files; nothing where it asks for none."""
    for name in os.environ.get(OUTPUT_NAMES_VARIABLE, "").split():
        storage.write_bytes(f"{os.environ[OUTPUTS_VARIABLE]}/{name}", str(recorded[name]).encode())


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    chosen = [name for name in os.environ.get(SHOWN_VARIABLE, "").split(",") if name]
    return {name: metrics[name] for name in chosen if name in metrics} if chosen else dict(metrics)


def _copy_page(page: str, artifact: Path, target: Path) -> None:
    if not page or not (artifact / page).is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifact / page, target)
