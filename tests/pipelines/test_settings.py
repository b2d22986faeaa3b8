"""Every problem of a parameter file is named at once, before anything runs, and its name is what a person can type."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import PARAMS
from pipelines.flow import SECTIONS
from pipelines.settings import SettingsError, complete, missing, read_settings, resolved

# One mistake a row: what is in the file, or what is typed; what the message must say.
_MISTAKES: list[tuple[Any, str, str]] = [
    ({"trian": {}}, "", "unknown section trian; did you mean train?"),
    ({"quux": {}}, "", "unknown section quux; known are prepare, encoder"),
    ({"base": {"checkpoint_uri": "x"}}, "", "section base is now encoder"),
    ({"mine": {"num_bm52": 3}}, "", "unknown setting in section mine: num_bm52; did you mean num_bm25?"),
    ({"train": {"query_tokens": 3}}, "", "unknown setting in section train: query_tokens"),
    ({"export": {"query_tokens": 3}}, "", "unknown setting in section export: query_tokens"),
    ({"annotate": {"shard": 3}}, "", "unknown setting in section annotate: shard"),
    ({"mine": {"encoder_uri": "x"}}, "", "unknown setting in section mine: encoder_uri"),
    ({"mine": {"num_bm25": "three"}}, "", "mine.num_bm25 'three': is not of type int"),
    ({"mine": {"num_bm25": True}}, "", "mine.num_bm25 True: is not of type int"),
    ({"mine": {"human_positive": "maybe"}}, "", "mine.human_positive 'maybe': is none of include, as_retrieved"),
    ({"train": {"loss_temperature": "hot"}}, "", "train.loss_temperature 'hot': is not a number"),
    ({"train": 3}, "", "section train: a mapping of settings is wanted, found 3"),
    (["train"], "", "a mapping of sections is wanted, found list"),
    ({}, "train.batch_queries=0", "train.batch_queries 0: must be at least 1"),
    ({}, "mine.num_bm25=-1", "mine.num_bm25 -1: must be at least 0"),
    ({}, "mine.num_bm25", "write section.setting=value"),
    ({}, "mine=3", "write section.setting=value"),
    ({}, "train.loss_temperature=0", "train.loss_temperature 0.0: must be above 0"),
    ({}, "train.loss_temperature=.nan", "train.loss_temperature nan: must be above 0"),
    ({}, "train.group_size=1", "train.group_size 1: must be at least 2"),
    ({}, "evaluate.confidence=1", "evaluate.confidence 1.0: must be below 1"),
    ({}, "evaluate.measures=nDCG@10 XYZ@3", "'XYZ@3' is not a measure"),
    ({}, "evaluate.measures=", "evaluate.measures: none named"),
    ({}, "index.factory=IVF,Flatt", "index.factory 'IVF,Flatt': FAISS refuses it"),
    ({}, "index.num_shards=33", "index.num_shards 33: must be at most 32"),
    ({}, "export.variants=fp32,int4", "export.variants 'fp32,int4': int4 unknown"),
    ({}, "annotate.engine=endpoint", "annotate.endpoint_uri '': engine endpoint needs the server's base URL"),
    ({}, "annotate.endpoint_uri=http://x/v1", "annotate.endpoint_uri 'http://x/v1': engine vllm asks no server"),
    ({}, "annotate.ignore_margin=-0.5", "annotate.ignore_margin -0.5: must be at least 0"),
    ({}, "annotate.llm_uri=packaged:GPT", "annotate.llm_uri packaged:GPT: no such packaged model; known are"),
    ({}, "encoder.passage_tokens=2", "encoder.passage_tokens 2: must be at least 4"),
    ({}, "mine.depth=3", "mine.depth 3: cannot fill 15 hits"),
    (
        {},
        "train.curriculum=[{name: a, labels: llm, loss: dsj_infonce}]",
        "train.curriculum stage 1: loss 'dsj_infonce'",
    ),
    ({}, "train.curriculum=[{name: a, labels: robots}]", "train.curriculum stage 1: labels 'robots'"),
    ({}, "train.curriculum=[{name: a, labels: llm, epochs: 0}]", "train.curriculum stage 1: epochs"),
    ({}, "train.curriculum=[]", "train.curriculum: no stages"),
    (
        {},
        "encoder.checkpoint_uri=packaged:all-MiniLM-L6-v2",
        "train.loss_temperature 1.0: the encoder makes unit vectors",
    ),
    (
        {},
        "train.curriculum=[{name: a, labels: llm, loss: kl_replug}]",
        "train.curriculum stage 1: the loss kl_replug learns from the LLM's scores",
    ),
    ({}, "annotate.judge=nobody", "train.curriculum stage 1: labels 'llm' are the LLM's, and annotate.judge is nobody"),
    (
        {"annotate": {"judge": "nobody"}},
        "train.curriculum=[{name: a, labels: teacher, loss: distillation, human_share: 0, llm_share: 0.2}]",
        "train.curriculum stage 1: llm_share 0.2 is the LLM's word, and annotate.judge is nobody",
    ),
    ({"encoder": {"normalise": True}}, "", "train.loss_temperature 1.0: scores of unit vectors"),
]


@pytest.mark.parametrize(
    ("values", "assignment", "message"), _MISTAKES, ids=[message[:40] for *_, message in _MISTAKES]
)
def test_a_mistake_is_named_with_its_section_and_value(values: Any, assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        complete(values, [assignment] if assignment else [])
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_problems_are_named_at_once() -> None:
    files = [row for row in _MISTAKES if isinstance(row[0], dict) and row[0] and not row[1] and "unit" not in row[2]]
    values: dict[str, Any] = {}
    for given, _, _ in files:
        for section, settings in given.items():
            if isinstance(settings, dict) and isinstance(values.get(section, {}), dict):
                values.setdefault(section, {}).update(settings)
    typed = ["train.batch_queries=0", "evaluate.confidence=2", "index.factory=Flatt", "mine.depth=0"]
    with pytest.raises(SettingsError) as caught:
        complete(values, typed)
    assert len(caught.value.problems) >= 10
    text = str(caught.value)
    assert all(name in text for name in ("trian", "num_bm52", "train.batch_queries", "evaluate.confidence", "Flatt"))


def _retriever(*arguments: str) -> tuple[int, str, float]:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr, time.monotonic() - start


@pytest.mark.parametrize("command", ["run", "estimate", "compile"])
def test_every_command_ends_with_exit_2_and_all_problems_before_anything_runs(command: str, tmp_path: Path) -> None:
    typed = ["train.batch_queries=0", "mine.num_bm25=-1", "train.curriculum=[{name: a, labels: llm, loss: disj}]"]
    flags = [flag for assignment in typed for flag in ("--set", assignment)]
    places = {
        "run": ["--data", "/nowhere", "--workdir", str(tmp_path / "w")],
        "estimate": ["--workdir", str(tmp_path / "w")],
    }
    code, errors, seconds = _retriever(command, *places.get(command, ["--output", str(tmp_path / "p.yaml")]), *flags)
    assert code == 2
    assert "Traceback" not in errors
    for problem in ("train.batch_queries 0", "mine.num_bm25 -1", "train.curriculum stage 1: loss 'disj'"):
        assert problem in errors
    assert list(tmp_path.iterdir()) == []
    # The promise is 3 seconds on a free machine; a test machine may be busy.
    assert seconds < 15


def test_a_quote_for_a_collection_names_what_its_run_would_miss(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("encoder: {query_tokens: 16}\n")
    places = ["--workdir", str(tmp_path / "w"), "--data", str(tmp_path), "--params", str(tmp_path / "run.yaml")]
    code, errors, _ = _retriever("estimate", *places)
    assert code == 2
    assert "encoder.checkpoint_uri is not set; a run needs it" in errors


def test_yaml_traps_are_read_as_they_were_meant(tmp_path: Path) -> None:
    # YAML 1.1 reads 1e-5 as text and a bare yes as a truth value.
    (tmp_path / "run.yaml").write_text(
        "encoder: {normalise: no}\nexport: {max_difference: 1e-5}\ntrain: {loss_temperature: 1}\nindex:\n"
    )
    settings = read_settings(tmp_path / "run.yaml")
    assert settings["encoder"]["normalise"] == "no"
    assert settings["export"]["max_difference"] == 1e-5
    assert isinstance(settings["train"]["loss_temperature"], float)
    assert settings["index"]["factory"] == "auto"
    assert set(settings) == set(SECTIONS)


@pytest.mark.parametrize("content", [b"train: {seed: [}\n", b"\xff\xfe\x00"])
def test_a_broken_parameter_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"run\.yaml: not YAML"):
        read_settings(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "train: {seed: 1}\nmine: {num_bm25: 3}\ntrain: {dropout: off}\n",
            r"line 3, column 1: 'train' stands in line 1",
        ),
        ("train:\n  seed: 1\n  seed: 2\n", r"line 3, column 3: 'seed' stands in line 2 already; delete one"),
        (
            "train:\n  curriculum: [{name: a, labels: llm, epochs: 1, epochs: 2}]\n",
            r"'epochs' stands in line 2 already",
        ),
        (
            "train: {curriculum: '[{name: a, labels: llm, epochs: 1, epochs: 2}]'}\n",
            r"'epochs' stands in line 1 already",
        ),
    ],
)
def test_a_key_that_stands_twice_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_settings(tmp_path / "run.yaml")


def test_a_merged_mapping_may_be_given_other_values(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("mine: {<<: {num_bm25: 3, num_dense: 4}, num_dense: 5}\n")
    chosen = read_settings(tmp_path / "run.yaml")["mine"]
    assert (chosen["num_bm25"], chosen["num_dense"]) == (3, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("encoder: {checkpoint_uri: no}", "checkpoint_uri False: is not of type str; put it in quotes"),
        ("annotate: {llm_uri: 7}", "llm_uri 7: is not of type str; put it in quotes"),
        ("train: {seed: many}", "seed 'many': is not of type int; write a whole number"),
        ("train: {loss_temperature: [1]}", r"loss_temperature \[1\]: is not of type float; write a number"),
    ],
)
def test_a_value_of_another_type_comes_with_its_remedy(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_settings(tmp_path / "run.yaml")


def test_a_parameter_file_may_say_only_what_differs_from_another(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("mine: {num_bm25: 3, num_dense: 4}\ntrain: {seed: 7}\n")
    (tmp_path / "one.yaml").write_text("extends: all.yaml\nmine: {num_dense: 5}\n")
    settings = read_settings(tmp_path / "one.yaml")
    assert (settings["mine"]["num_bm25"], settings["mine"]["num_dense"], settings["train"]["seed"]) == (3, 5, 7)


@pytest.mark.parametrize(("name", "message"), [("one.yaml", "extends itself"), ("none.yaml", "no such parameter file")])
def test_a_file_that_cannot_be_extended_is_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"extends: {name}\n")
    with pytest.raises(SettingsError, match=rf"{name}: {message}"):
        read_settings(tmp_path / "one.yaml")


def test_a_parameter_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"run\.yaml: no such parameter file"):
        read_settings(tmp_path / "run.yaml")


def test_what_a_run_needs_and_lacks_is_named() -> None:
    assert [line.split(" ")[0] for line in missing(complete({}))] == [
        "prepare.collection_uri",
        "encoder.checkpoint_uri",
        "annotate.llm_uri",
    ]


def test_packaged_models_become_files_in_one_place() -> None:
    given = {"encoder": {"checkpoint_uri": "packaged:all-MiniLM-L6-v2"}, "train": {"loss_temperature": 0.05}}
    settings = resolved(complete(given))
    assert (Path(settings["encoder"]["checkpoint_uri"]) / "model.safetensors").is_file()


@pytest.mark.parametrize("path", sorted(PARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_parameter_file_of_the_project_is_complete_and_works(path: Path) -> None:
    assert set(read_settings(path)) == set(SECTIONS)
