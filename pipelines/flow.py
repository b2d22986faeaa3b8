"""THE table: which task runs which component, which settings it reads, and where each of its inputs comes from.

The runners (local.py, kubeflow.py) read this table and know no task by name; where a task runs is resources.py. What a
field of a config is (an input, a setting, ...) is declared in the component's config.py and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from components.annotate.config import AnnotateConfig
from components.answer.config import AnswerConfig
from components.ask.config import AskConfig
from components.collect.config import CollectConfig
from components.evaluate.config import EvaluateConfig
from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.mine.config import MineConfig
from components.mine.selection import SELECTORS
from components.prepare.config import PrepareConfig
from components.promote.config import PromoteConfig, StartConfig
from components.shared.encoding.dual_encoder import DualEncoderConfig
from components.shared.encoding.engines.config import EncodingConfig
from components.shared.roles import Role, role_of
from components.train.config import TrainConfig
from pipelines.rows import Settings as Settings
from pipelines.rows import Task as Task
from pipelines.rows import When, always

Makers = tuple[str, ...]

_SYSTEMS = ("trained", "base", "bm25", "hybrid_trained", "hybrid_base")

# A section's class says which settings it may hold; `miner` is the encoder of the first round's dense negatives, where
# it is not the base.
SECTIONS: dict[str, type[Any]] = {
    "prepare": PrepareConfig,
    "encoder": DualEncoderConfig,
    "encoding": EncodingConfig,
    "miner": DualEncoderConfig,
    "ask": AskConfig,
    "mine": MineConfig,
    "annotate": AnnotateConfig,
    "train": TrainConfig,
    "export": ExportConfig,
    "index": IndexConfig,
    "evaluate": EvaluateConfig,
    "answer": AnswerConfig,
    "collect": CollectConfig,
    "judge": AnnotateConfig,
    "promote": PromoteConfig,
    "start": StartConfig,
}

# What the run's page shows of the evaluation, where it was measured.
_MEASURED = (
    *(f"{system}_{measure}" for measure in ("ndcg_10", "recall_100") for system in _SYSTEMS),
    "trained_minus_base_ndcg_10",
    "gate_passed",
)
# What a run starts from, where a store of releases says that; else the model that the encoder's section names.
_STARTED: dict[str, tuple[str, ...]] = {"checkpoint_uri": ("start",)}
# Where the queries are: in the dataset that ask wrote, else in that of prepare.
_QUERIES = ("ask", "prepare")
_RUNS: dict[str, tuple[str, ...]] = {"dataset_uri": _QUERIES, "evaluation_uri": ("evaluate",)}
_ENCODING = ("engine", "variant", "shard_passages", "batch_tokens", "vector_dtype", "num_threads", "num_shards")


def _given(section: str, name: str = "num_queries") -> Callable[[Settings], bool]:
    return lambda settings: bool(settings[section][name])


def _exported_and_indexed(
    label: str, section: str, prefix: str, checkpoint: Makers, when: When = always, dataset: Makers = ("prepare",)
) -> tuple[Task, ...]:
    """The rows that make an encoder and its index; between them the corpus is encoded in shards where that is asked."""
    suffix = f" ({label})" if label else ""
    export, encode = f"export{suffix}", f"encode{suffix}"
    corpus = {"dataset_uri": dataset, "encoder_uri": (export,)}
    return (
        Task(
            name=export,
            config=ExportConfig,
            sections=(section, "export"),
            makes=f"{prefix}encoder",
            inputs={"dataset_uri": dataset, **({"checkpoint_uri": checkpoint} if checkpoint else {})},
            instead=_STARTED if label == "base" else {},
            when=when,
        ),
        Task(
            name=encode,
            config=IndexConfig,
            sections=("encoding", "index"),
            makes=f"{prefix}vectors",
            inputs=corpus,
            fixed={"product": "vectors"},
            takes=_ENCODING,
            shards="index.num_shards",
            when=lambda settings: when(settings) and bool(settings["index"]["num_shards"] > 1),
        ),
        Task(
            name=f"index{suffix}",
            config=IndexConfig,
            sections=("encoding", "index"),
            makes=f"{prefix}index",
            inputs={**corpus, "vectors_uri": (encode,)},
            # An earlier index serves only where the encoder is the same in every run: that of the base model.
            fixed={"product": "index", "num_shards": 1, **({} if label == "base" else {"previous_uri": ""})},
            when=when,
            shown=("recall_10", "queries_per_second", "num_passages"),
        ),
    )


def _warms_up(settings: Settings) -> bool:
    """Whether a budget is spent by what an encoder says that was trained on a part of it."""
    mine, selector = settings["mine"], SELECTORS.get(settings["mine"]["select"])
    return bool(selector and selector.needs_finetuned and mine["warmup_queries"])


_MINE = Task(
    name="mine",
    config=MineConfig,
    sections=("encoding", "mine"),
    makes="pools",
    inputs={
        "dataset_uri": _QUERIES,
        "encoder_uri": ("export (miner)", "export (base)"),
        "index_uri": ("index (miner)", "index (base)"),
        "finetuned_encoder_uri": ("export (warm-up)",),
        "finetuned_index_uri": ("index (warm-up)",),
    },
)
_ANNOTATE = Task(
    name="annotate",
    config=AnnotateConfig,
    sections=("annotate",),
    makes="annotations",
    inputs={"dataset_uri": _QUERIES, "pools_uri": ("mine",)},
    places={"journal_uri": "journal"},
    shards="annotate.num_shards",
    shown=("num_annotated", "num_quarantined", "dollars", "calls_made", "calls_from_journal"),
    page="logs/quality.html",
    when=lambda settings: settings["annotate"]["judge"] != "nobody",
)
_TRAIN = Task(
    name="train",
    config=TrainConfig,
    sections=("encoder", "train"),
    makes="checkpoint",
    inputs={"dataset_uri": _QUERIES, "pools_uri": ("mine",), "annotations_uri": ("annotate",)},
    instead=_STARTED,
    shown=("best_dev_ndcg_10", "num_steps", "best_step"),
)


def _in_warm_up(task: Task, **fixed: str) -> Task:
    """The row once more, in a first round on a few queries; the LLM's calls are in the journal for the second."""
    inputs = {
        name: tuple(f"{maker} (warm-up)" if maker in ("mine", "annotate") else maker for maker in makers)
        for name, makers in task.inputs.items()
        if name not in fixed
    }
    name, makes = f"{task.name} (warm-up)", f"warmup-{task.makes}"
    return replace(task, name=name, makes=makes, inputs=inputs, fixed=fixed, when=_warms_up)


FLOW: tuple[Task, ...] = (
    Task(
        name="start",
        config=StartConfig,
        job="start",
        sections=("prepare", "encoder", "start"),
        makes="start",
        watched=("collection_uri", "pointer_uri"),
        when=_given("start", "pointer_uri"),
        shown=("release",),
        opens=True,
    ),
    Task(
        name="prepare",
        config=PrepareConfig,
        sections=("prepare",),
        makes="dataset",
        watched=("collection_uri",),
        shown=("num_passages", "num_queries", "num_qrels"),
    ),
    *_exported_and_indexed("base", "encoder", "base-", ()),
    *_exported_and_indexed("miner", "miner", "miner-", (), _given("miner", "checkpoint_uri")),
    Task(
        name="ask",
        config=AskConfig,
        sections=("ask",),
        makes="asked",
        inputs={"dataset_uri": ("prepare",), "encoder_uri": ("export (base)",), "index_uri": ("index (base)",)},
        places={"journal_uri": "journal"},
        when=_given("ask"),
        page="logs/asked.html",
    ),
    _in_warm_up(_MINE, round="warm-up", finetuned_encoder_uri="", finetuned_index_uri=""),
    _in_warm_up(_ANNOTATE),
    _in_warm_up(_TRAIN),
    *_exported_and_indexed("warm-up", "encoder", "warmup-", ("train (warm-up)",), _warms_up, dataset=_QUERIES),
    _MINE,
    _ANNOTATE,
    _TRAIN,
    *_exported_and_indexed("", "encoder", "", ("train",), dataset=_QUERIES),
    Task(
        name="evaluate",
        config=EvaluateConfig,
        sections=("encoding", "evaluate"),
        makes="evaluation",
        inputs={
            "dataset_uri": _QUERIES,
            "base_encoder_uri": ("export (base)",),
            "base_index_uri": ("index (base)",),
            "encoder_uri": ("export",),
            "index_uri": ("index",),
            "annotations_uri": ("annotate",),
        },
        shown=_MEASURED,
        page="report.html",
        note="report.md",
    ),
    Task(
        name="promote",
        config=PromoteConfig,
        sections=("promote",),
        makes="release",
        inputs=_RUNS
        | {"encoder_uri": ("export",), "index_uri": ("index",), "checkpoint_uri": ("train",), "start_uri": ("start",)},
        when=_given("promote", "store"),
        shown=("promoted", "release"),
        gate="evaluation_uri",
    ),
    Task(
        name="answer",
        config=AnswerConfig,
        sections=("answer",),
        makes="answers",
        inputs=_RUNS | {"annotations_uri": ("annotate",)},
        places={"journal_uri": "journal"},
        page="report.html",
        when=_given("answer"),
    ),
    # A test collection that an LLM judges, which may be another one than the retriever learned from.
    Task(
        name="collect (pools)",
        config=CollectConfig,
        sections=("collect",),
        makes="test-pools",
        inputs=_RUNS,
        fixed={"product": "pools", "judgements_uri": "", "annotations_uri": "", "answers_uri": ""},
        when=_given("collect"),
    ),
    Task(
        name="judge",
        config=AnnotateConfig,
        sections=("judge",),
        makes="judgements",
        inputs={"dataset_uri": _QUERIES, "pools_uri": ("collect (pools)",)},
        # It is compared with people, so it learns no margin from them, and goes by the queries' reference answers.
        fixed={"judge": "llm", "calibration_queries": 0, "num_queries": 0, "answers": "collection"},
        places={"journal_uri": "journal"},
        shards="judge.num_shards",
        when=_given("collect"),
    ),
    Task(
        name="collect",
        config=CollectConfig,
        sections=("collect",),
        makes="test-collection",
        inputs=_RUNS | {"judgements_uri": ("judge",), "annotations_uri": ("annotate",), "answers_uri": ("answer",)},
        fixed={"product": "collection"},
        page="report.html",
        when=_given("collect"),
    ),
)

# What a run as a whole leaves, where a task of it makes that: all that serve needs, and how good it is.
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "dataset": _QUERIES,
    "encoder": ("export",),
    "index": ("index",),
    "evaluation": ("evaluate",),
    "answers": ("answer",),
    "test_collection": ("collect",),
}

# What differs from run to run of one compiled pipeline, where a task of it reads the section; all else is constant.
PARAMETERS = (
    *("prepare.collection_uri", "encoder.checkpoint_uri", "ask.llm_uri", "ask.endpoint_uri", "ask.journal_uri"),
    *("mine.num_queries", "annotate.llm_uri", "annotate.endpoint_uri", "annotate.journal_uri"),
    *("train.state_uri", "train.curriculum", "evaluate.split", "answer.llm_uri", "answer.endpoint_uri"),
    *("answer.journal_uri", "judge.llm_uri", "judge.endpoint_uri", "judge.journal_uri"),
)


def taking_part(settings: Settings) -> list[Task]:
    """The tasks of a run with these settings, in an order in which every input is made before it is read."""
    return [task for task in FLOW if task.when(settings)]


def sources(task: Task, settings: Settings) -> dict[str, Task]:
    """Config field -> the task that makes it in a run with these settings; a field that no task makes is left out."""
    present = {other.name: other for other in taking_part(settings)}
    makers = {
        name: next((present[maker] for maker in made if maker in present), None)
        for name, made in {**task.inputs, **task.instead}.items()
    }
    return {name: maker for name, maker in makers.items() if maker is not None}


def outputs(settings: Settings) -> dict[str, Task]:
    """Name -> the task that makes it, of everything that a run with these settings leaves."""
    present = {task.name: task for task in taking_part(settings)}
    making = {name: [present[maker] for maker in makers if maker in present] for name, makers in OUTPUTS.items()}
    return {name: tasks[0] for name, tasks in making.items() if tasks}


def parameters(settings: Settings) -> list[str]:
    """`section.setting` of every parameter of a pipeline that is compiled with these settings."""
    sections = {section for task in taking_part(settings) for section in task.sections}
    return [parameter for parameter in PARAMETERS if parameter.split(".")[0] in sections]


def num_shards(task: Task, settings: Settings) -> int:
    """Number of tasks that a row is split into."""
    if not task.shards:
        return 1
    section, name = task.shards.split(".")
    return int(settings[section][name])


def gates(settings: Settings) -> set[str]:
    """Names of the tasks whose verdict decides about others."""
    tasks = taking_part(settings)
    return {
        sources(task, settings)[task.gate].name if task.gate else task.name for task in tasks if task.gate or task.opens
    }


def opener(settings: Settings) -> Task | None:
    """The task whose verdict decides whether there is anything to do; None where there always is."""
    return next((task for task in taking_part(settings) if task.opens), None)


def edges(settings: Settings) -> set[tuple[str, str, str]]:
    """The graph of a run: (task that makes, config field, task that reads)."""
    return {
        (maker.name, name, task.name)
        for task in taking_part(settings)
        for name, maker in sources(task, settings).items()
    }


def owners(task: Task) -> dict[str, str]:
    """Config field -> section of the parameter file that fills it, for every field that a person may set."""
    open_fields: dict[str, str] = {}
    for declared in dataclasses.fields(task.config):
        name, by_flow = declared.name, role_of(declared) in (Role.OUTPUT, Role.FLOW)
        if not (by_flow or name in task.inputs or name in task.fixed) and (not task.takes or name in task.takes):
            open_fields[name] = next(one for one in task.sections if name in SECTIONS[one].__dataclass_fields__)
    return open_fields


def make_config(task: Task, settings: Settings, *, inputs: Mapping[str, str], output_uri: str, shard: int = 0) -> Any:  # noqa: ANN401 the config class of the row
    """The config of one task; `inputs` are addresses of what others make, by field, several separated by commas.

    Raises:
        ValueError: One line for every value that cannot work; each begins with the field's name.
    """
    chosen = {name: settings[section][name] for name, section in owners(task).items()}
    sharded = {"shard": shard} if task.shards else {}
    return task.config(**{**chosen, **task.fixed, **inputs, **sharded, "output_uri": output_uri})
