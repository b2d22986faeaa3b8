"""What Kubeflow hands a container, in the form of a cluster and of its local runner, and what it reads of it.

`executor_inputs/` holds one of each: `local.json` as kfp.local 2.17 writes it (the last test holds it to that),
`cluster.json` with the addresses, numbers and missing names of the backend's launcher.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput

from components.shared.contract.executor import (
    artifact_path,
    input_paths,
    read_executor_input,
    write_executor_output,
)

_FOLDER = Path(__file__).parent / "executor_inputs"


def _recorded(world: str) -> dict[str, Any]:
    return read_executor_input((_FOLDER / f"{world}.json").read_text())


@pytest.mark.parametrize(
    ("artifact", "path"),
    [
        ({"uri": "/root/run/prepare/dataset"}, "/root/run/prepare/dataset"),
        ({"uri": "gs://b/x"}, "/gcs/b/x"),
        ({"uri": "s3://b/x"}, "/s3/b/x"),
        ({"uri": "minio://b/x"}, "/minio/b/x"),
        # The launcher unpacks a model image into one folder whose name holds no slash.
        ({"uri": "oci://registry.io/models/llm:1"}, "/oci/registry.io_models_llm:1/models"),
        ({"uri": "s3://b/x", "customPath": "/mnt/fast/x"}, "/mnt/fast/x"),
        ({"uri": "s3://b/x", "metadata": {"_kfp_workspace": True}}, "/kfp-workspace/.artifacts/s3/b/x"),
        ({"uri": "s3://b/x", "metadata": {"_kfp_workspace": "yes"}}, "/s3/b/x"),
    ],
)
def test_an_artifact_lies_where_the_launcher_puts_it(artifact: dict[str, Any], path: str) -> None:
    assert artifact_path(artifact) == path


def test_kfp_itself_says_the_same_of_the_forms_that_it_knows() -> None:
    from kfp import dsl

    for uri in ("/root/x", "gs://b/x", "s3://b/x", "minio://b/x"):
        assert artifact_path({"uri": uri}) == dsl.Artifact(uri=uri).path
    inside = dsl.Artifact(uri="s3://b/x", metadata={"_kfp_workspace": True})
    assert artifact_path({"uri": inside.uri, "metadata": inside.metadata}) == inside.path


@pytest.mark.parametrize(
    ("world", "folder"),
    [
        ("cluster", "/minio/mlpipeline/v2/artifacts/squad/4f1c/annotate/{}/annotations"),
        ("local", "/root/retriever-2026-11-27-03-00-00-000000/for-loop-2-iteration-{}/annotate/annotations"),
    ],
)
def test_a_list_of_artifacts_becomes_all_their_paths_in_order(world: str, folder: str) -> None:
    names = ("11aa", "22bb") if world == "cluster" else ("0", "1")
    assert input_paths(_recorded(world), "annotations") == [folder.format(name) for name in names]


def test_an_input_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no artifacts 'pools'; it has \['annotations', 'dataset'\]"):
        input_paths(_recorded("cluster"), "pools")


@pytest.mark.parametrize("text", ["", "{{$}}", "[]", "{"])
def test_what_is_no_executor_input_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--executor-input is no JSON"):
        read_executor_input(text)


@pytest.mark.parametrize("world", ["cluster", "local"])
def test_the_output_names_every_artifact_with_what_its_kind_shows(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVER_PAGE", "report.html")
    monkeypatch.setenv("RETRIEVER_SHOWN", "trained_ndcg_10,not_measured")
    executor_input = _recorded(world)
    outputs = executor_input["outputs"]
    outputs["outputFile"] = str(tmp_path / "new" / "folder" / "executor_output.json")
    page = outputs["artifacts"]["page"]["artifacts"][0]
    page["uri"] = str(tmp_path / "made" / "page")
    artifact = tmp_path / "evaluation"
    artifact.mkdir()
    (artifact / "report.html").write_text("<html>")
    write_executor_output(executor_input, str(artifact), {"trained_ndcg_10": 0.5, "num_queries": 6.0})
    written = json.loads(Path(outputs["outputFile"]).read_text())
    assert set(written) == {"artifacts", "parameterValues"}
    made = {name: listed["artifacts"][0] for name, listed in written["artifacts"].items()}
    assert made["metrics"]["metadata"] == {"trained_ndcg_10": 0.5}
    assert made["evaluation"]["metadata"] == {"trained_ndcg_10": 0.5, "num_queries": 6.0}
    assert made["page"]["metadata"] == {}
    assert (tmp_path / "made" / "page").read_text() == "<html>"
    # Addresses go back as they came, and only one file is left of the writing.
    assert {name: one["uri"] for name, one in made.items()} == {
        name: listed["artifacts"][0]["uri"] for name, listed in outputs["artifacts"].items()
    }
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["executor_output.json"]


def test_without_a_page_nothing_is_copied_and_the_output_is_written_all_the_same(tmp_path: Path) -> None:
    executor_input = _recorded("local")
    executor_input["outputs"]["outputFile"] = str(tmp_path / "output.json")
    executor_input["outputs"]["artifacts"]["page"]["artifacts"][0]["uri"] = str(tmp_path / "page")
    write_executor_output(executor_input, str(tmp_path), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output.json"]


@pytest.mark.parametrize("world", ["cluster", "local"])
def test_a_recorded_input_has_the_form_of_kfps_own_message(world: str) -> None:
    # An unknown field, or one of a wrong type, does not parse.
    message = json_format.ParseDict(_recorded(world), ExecutorInput())
    assert len(message.inputs.artifacts["annotations"].artifacts) == 2


def test_an_output_parameter_is_what_the_job_recorded_for_both_worlds(tmp_path: Path) -> None:
    # The launcher of a cluster reads the parameter's file, the local runner the executor output.
    outputs = {"outputFile": str(tmp_path / "output.json"), "artifacts": {}}
    outputs["parameters"] = {"digest": {"outputFile": str(tmp_path / "digest")}}
    write_executor_output({"outputs": outputs}, str(tmp_path), {"digest": "0123", "seconds": 2})
    assert (tmp_path / "digest").read_text() == "0123"
    assert json.loads((tmp_path / "output.json").read_text())["parameterValues"] == {"digest": "0123"}
