"""The table is the flow: every runner makes its graph, one section feeds both encoders, growing it is cheap."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.encoding.dual_encoder import DualEncoderConfig
from components.shared.roles import Role, role_of
from pipelines import flow
from pipelines.local import plan
from pipelines.settings import complete, missing

_GIVEN = {
    "prepare": {"collection_uri": "/c"},
    "encoder": {"checkpoint_uri": "base"},
    "annotate": {"llm_uri": "llm", "num_shards": 3},
}
_WITH_MINER = {**_GIVEN, "miner": {"checkpoint_uri": "retriever"}, "index": {"num_shards": 2}}
_ROOT = Path(__file__).parents[2]
_WITH_ASK = {**_GIVEN, "ask": {"llm_uri": "llm", "num_queries": 100}}
_WITH_ANSWER = {**_WITH_ASK, "answer": {"llm_uri": "llm", "num_queries": 50}}
_WITH_COLLECTION = {**_WITH_ANSWER, "collect": {"num_queries": 30}, "judge": {"llm_uri": "judge", "num_shards": 2}}
_WITH_WARM_UP = {**_GIVEN, "mine": {"select": "deviation", "budget_queries": 300, "warmup_queries": 100}}
every_flow = pytest.mark.parametrize(
    "values",
    [_GIVEN, _WITH_MINER, _WITH_ASK, _WITH_ANSWER, _WITH_COLLECTION, _WITH_WARM_UP],
    ids=["plain", "miner and shards", "asked", "answered", "collected", "warm-up"],
)


@every_flow
def test_every_input_is_made_before_it_is_read(values: dict[str, dict[str, object]]) -> None:
    settings = complete(values)
    order = [task.name for task in flow.taking_part(settings)]
    assert all(order.index(maker) < order.index(reader) for maker, _, reader in flow.edges(settings))


@every_flow
def test_a_local_run_has_the_graph_of_the_table(values: dict[str, dict[str, object]]) -> None:
    settings = complete(values)
    steps = plan(settings, Path("w"))
    makers = {step.config.output_uri: step.name.split(" ")[0] for step in steps}
    titles = {step.config.output_uri: step.name for step in steps}
    found = set()
    for step in steps:
        for field in dataclasses.fields(step.config):
            if role_of(field) is Role.INPUT:
                for uri in str(getattr(step.config, field.name)).split(","):
                    if uri in makers:
                        found.add((_row(titles[uri]), field.name, _row(step.name)))
    assert found == flow.edges(settings)


def _row(step_name: str) -> str:
    """The row of a step: its name without the number of the shard."""
    return step_name.rpartition(" ")[0] if step_name[-1].isdigit() else step_name


@every_flow
def test_every_input_of_every_task_is_made_or_given_or_left_out_knowingly(values: dict[str, dict[str, object]]) -> None:
    for step in plan(complete(values), Path("w")):
        for field in dataclasses.fields(step.config):
            if role_of(field) is Role.INPUT and field.default is dataclasses.MISSING:
                assert getattr(step.config, field.name), (step.name, field.name)


_CHANGED = {
    "checkpoint_uri": "another",
    "pooling": "cls",
    "normalise": "no",
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
    "query_tokens": 48,
    "passage_tokens": 77,
    "dimensions": 256,
    "matryoshka": "128,64",
    "trust_remote_code": "yes",
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(DualEncoderConfig)])
def test_a_setting_of_the_encoder_section_reaches_base_and_trained_encoder_alike(name: str) -> None:
    value = _CHANGED[name]
    settings = complete({**_GIVEN, "encoder": {"checkpoint_uri": "base", name: value}})
    configs = {step.name: step.config for step in plan(settings, Path("w"))}
    assert getattr(configs["export (base)"], name) == value
    assert getattr(configs["train"], name) == value
    # The trained encoder is exported from what train wrote, which holds that value.
    assert getattr(configs["export"], name) == (value if name != "checkpoint_uri" else "w/checkpoint")


def test_the_first_round_may_mine_with_another_encoder() -> None:
    configs = {step.name: step.config for step in plan(complete(_WITH_MINER), Path("w"))}
    assert configs["mine"].encoder_uri == "w/miner-encoder"
    assert configs["evaluate"].base_encoder_uri == "w/base-encoder"
    plain = {step.name: step.config for step in plan(complete(_GIVEN), Path("w"))}
    assert plain["mine"].encoder_uri == "w/base-encoder"
    assert "export (miner)" not in plain


def test_where_queries_are_asked_every_later_task_reads_them_and_the_base_index_stays_as_it_is() -> None:
    configs = {step.name: step.config for step in plan(complete(_WITH_ASK), Path("w"))}
    assert configs["ask"].dataset_uri == configs["index (base)"].dataset_uri == "w/dataset"
    assert (configs["ask"].encoder_uri, configs["ask"].index_uri) == ("w/base-encoder", "w/base-index")
    later = ("mine", "annotate 1/3", "train", "export", "index", "evaluate")
    assert {configs[name].dataset_uri for name in later} == {"w/asked"}
    # One journal: an LLM that writes and judges is one LLM.
    assert configs["ask"].journal_uri == configs["annotate 1/3"].journal_uri == "w/journal"
    assert flow.outputs(complete(_WITH_ASK))["dataset"].name == "ask"
    plain = {step.name: step.config for step in plan(complete(_GIVEN), Path("w"))}
    assert "ask" not in plain
    assert plain["mine"].dataset_uri == "w/dataset"
    assert flow.outputs(complete(_GIVEN))["dataset"].name == "prepare"


def test_answers_are_made_only_where_somebody_says_how_many_and_from_the_runs_of_the_evaluation() -> None:
    settings = complete(_WITH_ANSWER)
    configs = {step.name: step.config for step in plan(settings, Path("w"))}
    answer = configs["answer"]
    assert (answer.dataset_uri, answer.evaluation_uri) == ("w/asked", "w/evaluation")
    assert answer.annotations_uri == configs["evaluate"].annotations_uri
    assert answer.journal_uri == "w/journal"
    assert flow.outputs(settings)["answers"].name == "answer"
    assert "answer" not in {task.name for task in flow.taking_part(complete(_GIVEN))}
    assert "answers" not in flow.outputs(complete(_GIVEN))


def test_a_test_collection_is_judged_by_an_llm_of_its_own_which_does_not_see_peoples_labels() -> None:
    settings = complete(_WITH_COLLECTION)
    configs = {step.name: step.config for step in plan(settings, Path("w"))}
    pools, judge, collection = configs["collect (pools)"], configs["judge 1/2"], configs["collect"]
    assert (pools.product, pools.evaluation_uri, pools.judgements_uri) == ("pools", "w/evaluation", "")
    assert (judge.llm_uri, judge.pools_uri, judge.calibration_queries) == ("judge", "w/test-pools", 0)
    assert (judge.answers, configs["annotate 1/3"].answers) == ("collection", "llm")
    assert (collection.product, collection.answers_uri) == ("collection", "w/answers")
    assert collection.judgements_uri == f"{configs['judge 1/2'].output_uri},{configs['judge 2/2'].output_uri}"
    assert collection.annotations_uri == configs["evaluate"].annotations_uri
    assert flow.outputs(settings)["test_collection"].name == "collect"
    assert not {"collect (pools)", "judge", "collect"} & {task.name for task in flow.taking_part(complete(_GIVEN))}


def test_where_nobody_judges_no_llm_is_needed_and_train_learns_from_pools_and_people() -> None:
    stages = [{"name": "human", "labels": "human"}]
    values = {"encoder": {"checkpoint_uri": "b"}, "annotate": {"judge": "nobody"}, "train": {"curriculum": stages}}
    settings = complete({**values, "prepare": {"collection_uri": "c"}})
    assert missing(settings) == []
    configs = {step.name: step.config for step in plan(settings, Path("w"))}
    assert "annotate" not in configs
    assert (configs["train"].annotations_uri, configs["train"].pools_uri) == ("", "w/pools")
    assert configs["evaluate"].annotations_uri == ""


def test_a_budget_is_spent_by_what_the_encoder_of_a_warm_up_round_says() -> None:
    settings = complete(_WITH_WARM_UP)
    configs = {step.name: step.config for step in plan(settings, Path("w"))}
    first, main = configs["mine (warm-up)"], configs["mine"]
    assert (first.round, first.finetuned_encoder_uri, main.round) == ("warm-up", "", "main")
    assert (main.finetuned_encoder_uri, main.finetuned_index_uri) == ("w/warmup-encoder", "w/warmup-index")
    assert main.encoder_uri == first.encoder_uri == "w/base-encoder"
    # The second round pays for no call of the first.
    assert configs["annotate (warm-up) 1/3"].journal_uri == configs["annotate 1/3"].journal_uri == "w/journal"
    assert configs["train (warm-up)"].annotations_uri.startswith("w/warmup-annotations")
    assert configs["export"].checkpoint_uri == "w/checkpoint"
    chosen_by_chance = complete({**_GIVEN, "mine": {"select": "random", "budget_queries": 300}})
    assert not [task.name for task in flow.taking_part(chosen_by_chance) if "warm-up" in task.name]


def test_a_parameter_of_a_task_that_takes_no_part_is_left_out() -> None:
    assert "ask.llm_uri" in flow.parameters(complete(_WITH_ASK))
    assert not [name for name in flow.parameters(complete(_GIVEN)) if name.startswith("ask.")]


def test_an_earlier_index_is_used_for_the_encoder_that_stays_the_same_only() -> None:
    settings = complete({**_WITH_MINER, "index": {"previous_uri": "/earlier/base-index"}})
    previous = {
        step.name: step.config.previous_uri for step in plan(settings, Path("w")) if step.name.startswith("index")
    }
    assert previous == {"index (base)": "/earlier/base-index", "index (miner)": "", "index": ""}


_ROOM = {
    "__init__.py": '"""echo: dataset -> a copy of its number of passages."""\n',
    "config.py": """
\"\"\"Settings of echo.\"\"\"

from dataclasses import dataclass, field

from components.shared.roles import INPUT, OUTPUT, SETTING, at_least, refuse


@dataclass(frozen=True, kw_only=True)
class EchoConfig:
    \"\"\"Dataset -> its size, repeated.\"\"\"

    dataset_uri: str = field(metadata=INPUT)
    \"\"\"Dataset that prepare wrote.\"\"\"
    output_uri: str = field(metadata=OUTPUT)
    \"\"\"Folder that the echo is written to.\"\"\"
    num_times: int = field(default=2, metadata=SETTING | at_least(1))
    \"\"\"Number of repetitions.\"\"\"

    def __post_init__(self) -> None:
        \"\"\"Refuses values that cannot work.\"\"\"
        refuse(self)
""",
    "job.py": """
\"\"\"The recipe of echo.\"\"\"

from components.echo.config import EchoConfig
from components.shared.dataset import Dataset
from components.shared.manifest import artifact_writer, open_artifact


def echo(config: EchoConfig) -> None:
    \"\"\"Writes the number of passages.\"\"\"
    dataset = Dataset(open_artifact(config.dataset_uri))
    with artifact_writer("echo", config) as artifact:
        (artifact.path / "echo.txt").write_text(f"{dataset.num_passages}\\n" * config.num_times)
""",
    "__main__.py": """
from components.echo.config import EchoConfig
from components.echo.job import echo
from components.shared.launch import launch

if __name__ == "__main__":
    launch("echo", EchoConfig, echo)
""",
}
_SETTING = """\
    voice: str = field(default="low", metadata=SETTING)
    \"\"\"How it sounds.\"\"\"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project that may be changed."""
    for name in ("components", "pipelines"):
        shutil.copytree(_ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))


def _python(project: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


_COMPILE = """
from pathlib import Path
from pipelines import kubeflow
from pipelines.settings import complete
values = {"encoder": {"checkpoint_uri": "b"}, "annotate": {"llm_uri": "l"}}
kubeflow.compile_to(Path("pipeline.yaml"), complete(values), "laptop")
"""


@pytest.mark.slow
def test_a_new_setting_is_one_line_in_one_file(project: Path) -> None:
    # The field and its sentence, in the config of its room; flags, help, parameter file, identity and KFP follow.
    _edit(project / "components" / "mine" / "config.py", "    seed: int", f"{_SETTING}    seed: int")
    assert "--voice" in _python(project, "-m", "components.mine", "--help")
    read = "from pipelines.settings import complete; print(complete({'mine': {'voice': 'high'}})['mine']['voice'])"
    assert _python(project, "-c", read).strip() == "high"
    _python(project, "-c", _COMPILE)
    assert "--voice={{$.inputs.parameters['voice']}}" in (project / "pipeline.yaml").read_text()
    identity = (
        "from components.mine.config import MineConfig; from components.shared.identity import settings;"
        "print(settings(MineConfig(dataset_uri='', encoder_uri='', index_uri='', output_uri=''))['voice'])"
    )
    assert _python(project, "-c", identity).strip() == "low"


@pytest.mark.slow
def test_a_new_component_is_its_room_a_row_its_resources_and_its_section(project: Path, tiny_collection: Path) -> None:
    (project / "components" / "echo").mkdir()
    for name, text in _ROOM.items():
        (project / "components" / "echo" / name).write_text(text.lstrip())
    table = project / "pipelines" / "flow.py"
    _edit(
        table,
        "from components.evaluate.config",
        "from components.echo.config import EchoConfig\nfrom components.evaluate.config",
    )
    _edit(table, '    "train": TrainConfig,\n', '    "echo": EchoConfig,\n    "train": TrainConfig,\n')
    row = (
        'Task(name="echo", config=EchoConfig, sections=("echo",), makes="echo", inputs={"dataset_uri": ("prepare",)}),'
    )
    _edit(table, '    Task(\n        name="ask"', f'    {row}\n    Task(\n        name="ask"')
    _edit(
        project / "pipelines" / "resources.py",
        '        "prepare": _CPU,',
        '        "prepare": _CPU,\n        "echo": _CPU,',
    )
    _python(project, "-c", _COMPILE)
    assert "retriever/echo:" in (project / "pipeline.yaml").read_text()
    run = (
        "from pathlib import Path; from pipelines.local import plan, run_steps; from pipelines.settings import "
        "complete;"
        "values = {'encoder': {'checkpoint_uri': 'b'}, 'annotate': {'llm_uri': 'l'},"
        f" 'prepare': {{'collection_uri': {str(tiny_collection)!r}}}, 'echo': {{'num_times': 3}}}};"
        "steps = plan(complete(values), Path('work'));"
        "run_steps([step for step in steps if step.name in ('prepare', 'echo')])"
    )
    _python(project, "-c", run)
    assert (project / "work" / "echo" / "echo.txt").read_text() == "30\n" * 3
