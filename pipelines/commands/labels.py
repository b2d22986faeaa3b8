"""What `retriever estimate`, `trace` and `quality` say of a work folder's annotations, before and after paying."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from components.annotate.chosen import ChosenPools
from components.annotate.config import AnnotateConfig
from components.annotate.cost.estimate import (
    Assumptions,
    Quote,
    Throughput,
    estimate,
    measured_assumptions,
    open_tokenizer,
)
from components.annotate.quality.gold import Gold, qrels_gold, read_utility_labels
from components.annotate.quality.page import dollars
from components.annotate.quality.page import estimate as with_interval
from components.annotate.quality.report import ANNOTATIONS_NAME, compare
from components.annotate.trace import trace
from components.shared.calls.journalled import Paid, journal_model
from components.shared.calls.precision import AUTO, kept
from components.shared.calls.tally import Prices
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.durable.journal import Journal, read_journal
from components.shared.engines.config import EngineConfig
from components.shared.engines.engine import model_name
from components.shared.hashing import content_key
from components.shared.manifest import open_artifact, read_manifest
from components.shared.records import Annotation, read_records
from pipelines.flow import Settings
from pipelines.local import LocalStep, plan, run_steps
from pipelines.packaged import resolve


def annotation_folders(workdir: Path) -> list[Path]:
    """The finished annotations of a work folder: one, or one a shard.

    Raises:
        ValueError: Where there are none.
    """
    folders = [path for path in sorted(workdir.glob("annotations*")) if (path / "manifest.json").exists()]
    if not folders:
        raise ValueError(f"{workdir}: no finished annotations here; run `retriever run --workdir {workdir}` first")
    return folders


def tell(workdir: Path, query_id: str) -> str:
    """The story of one query's labels; inputs are those of the work folder, or where the manifest says they were."""
    folders = annotation_folders(workdir)
    config = read_manifest(str(folders[0])).config
    journal_uri = config["journal_uri"] or f"{config['output_uri'].rstrip('/')}.journal"
    dataset = Dataset(open_artifact(_place(dataset_folder(workdir), config["dataset_uri"])))
    return trace(
        query_id,
        annotations_uris=[str(folder) for folder in folders],
        dataset=dataset,
        pools_uri=_place(workdir / "pools", config["pools_uri"]),
        journal_uri=_place(workdir / "journal", journal_uri),
        golds=_golds(dataset, config["utility_labels_uri"]),
    )


def side_by_side(named: Sequence[str], dataset: Path, utility_labels: str, output: Path) -> str:
    """Writes the label-quality page over several annotations, and says the table.

    Raises:
        ValueError: Where a name is missing.
    """
    annotations: dict[str, list[str]] = {}
    for assignment in named:
        name, equals, uris = assignment.partition("=")
        if not equals:
            raise ValueError(f"--annotations {assignment}: write name=folder, or name=folder,folder for shards")
        annotations[name] = uris.split(",")
    golds = _golds(Dataset(open_artifact(str(dataset))), utility_labels)
    measured = compare(annotations, golds, output, title=" and ".join(annotations))
    return "\n".join([*quality_lines(measured["annotators"]), f"page: {(output / 'quality.html').resolve()}"])


def quality_lines(annotators: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Agreement with people as lines of a table."""
    yield f"{'annotator':<20} {'level':<9} {'people':<15} {'precision':<24} {'recall':<24} {'number':<22} kappa"
    for annotator in annotators:
        for level, values in annotator["levels"].items():
            for gold, against in values["against"].items():
                cells = [
                    with_interval(against["precision"]),
                    with_interval(against["recall"]),
                    with_interval(values["num_selected"], 2),
                ]
                kappa = with_interval(against["kappa"], 2)
                yield (
                    f"{annotator['name']:<20} {level:<9} {gold:<15} {cells[0]:<24} {cells[1]:<24} {cells[2]:<22} "
                    f"{kappa}"
                )
        yield (
            f"{'':<20} {annotator['num_queries'] - annotator['num_quarantined']} of {annotator['num_queries']} "
            "queries have labels"
        )


def dataset_folder(workdir: Path) -> Path:
    """The dataset of a work folder that has its queries: that of ask where it took part, else that of prepare."""
    asked = workdir / "asked"
    return asked if (asked / "manifest.json").exists() else workdir / "dataset"


@contextmanager
def pools_folder(settings: Settings, workdir: Path, *, make: bool) -> Iterator[Path]:
    """A folder with the pools and dataset that these settings would annotate; the work folder where it holds them.

    With `make` they are made where they are missing or of other settings, in a folder that goes away with the block.

    Raises:
        ValueError: Where the settings leave annotation out.
    """
    if settings["annotate"]["judge"] == "nobody":
        raise ValueError("annotate.judge nobody: no LLM judges anything, so nothing is to be estimated; set it to llm")
    if not make or all(step.is_unchanged for step in _before_annotate(settings, workdir)):
        yield workdir
        return
    cache = Path.home() / ".cache" / "retriever"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="estimate-") as folder:
        run_steps(_before_annotate(settings, Path(folder)))
        yield Path(folder)


def _before_annotate(settings: Settings, workdir: Path) -> list[LocalStep]:
    return list(takewhile(lambda step: step.component != "annotate", plan(settings, workdir)))


def quote(
    settings: Settings,
    made: Path,
    workdir: Path,
    *,
    sample: int,
    prices: Prices,
    throughput: Throughput,
    fixed_dollars: float,
) -> Quote:
    """What annotating the pools in `made` will cost; calls that the work folder's journal holds cost nothing.

    Assumptions are measured on earlier annotations of the same method in the work folder, where there are any.

    Raises:
        ValueError: Where the pools are not made yet, or the tokenizer cannot be found.
    """
    config = AnnotateConfig(**{**settings["annotate"], "dataset_uri": "", "pools_uri": "", "output_uri": ""})
    dataset = Dataset(open_artifact(str(dataset_folder(made))))
    pools = list(ChosenPools(open_artifact(str(made / "pools")) / "pools.jsonl", dataset, config))
    llm_uri = resolve(config.llm_uri)
    # Drawn by hash: the first pools of a collection may be of one kind.
    sampled = sorted(pools, key=lambda pool: content_key("estimate", pool.query_id))[:sample]
    with paid_calls(config, llm_uri, config.journal_uri or str(workdir / "journal")) as paid:
        return estimate(
            sampled,
            len(pools),
            dataset,
            config,
            open_tokenizer(llm_uri),
            prices=prices,
            assumptions=_measured(workdir, config.method),
            throughput=throughput,
            fixed_dollars=fixed_dollars,
            paid=paid,
        )


def quote_lines(quoted: Quote) -> Iterator[str]:
    """The quote for a person."""
    facts = quoted.as_dict()
    yield (
        f"{quoted.ledger.num_queries:,} queries, {quoted.ledger.num_pairs:,} passages to judge; counted on "
        f"{quoted.num_sampled:,} queries"
    )
    yield f"{'':<22}{'calls':>12}{'prompt tokens':>16}{'cacheable':>14}{'completion tokens':>19}{'cost':>14}"
    for name, row in [*facts["templates"].items(), ("together", facts["total"])]:
        counts = (
            f"{row['calls']:>12,}{row['prompt_tokens']:>16,}{row['cached_tokens']:>14,}{row['completion_tokens']:>19,}"
        )
        yield f"{name:<22}{counts}{dollars(row['dollars']):>14}"
    if quoted.num_paid:
        yield f"{quoted.num_paid:,} more calls are in the journal already and cost nothing"
    total, people = facts["total"], facts["human"]
    by_pairs = f"{dollars(total['dollars_per_million_pairs'])} per million pairs"
    yield f"{dollars(total['dollars_per_thousand_queries'])} per 1,000 queries, {by_pairs}"
    if quoted.hours:
        yield f"time:   {quoted.hours:,.2f} hours on {quoted.throughput.num_engines} engine(s)"
    yield f"people: {dollars(people['dollars'])} for the same labels{_times(people['times_as_dear'])}"
    if people["break_even_labels"] is not None:
        yield f"the LLM's price would buy {people['break_even_labels']:,.0f} human labels"
    if people["break_even_queries"] is not None:
        fixed = dollars(people["fixed_dollars"])
        yield f"cheaper than people from {people['break_even_queries']:,.0f} queries on, with {fixed} spent beforehand"
    if facts["templates"].keys() & {"relevance_selection", "answer"}:
        assumed = quoted.assumptions
        shares = f"{assumed.relevant_share:.0%} selected as relevant, {assumed.useful_share:.0%} of these as useful"
        yield f"taken as given: {shares}, answers of {assumed.answer_words} words, every completion parses at once"


def _times(times: float | None) -> str:
    return f", {times:,.1f} times as much" if times else ""


@contextmanager
def paid_calls(config: EngineConfig, llm_uri: str, journal_uri: str) -> Iterator[Paid | None]:
    """The calls of a journal that a job of this config would find there; None where there is no journal."""
    if not storage.exists(journal_uri):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="retriever-journal-") as scratch:
        # A copy, because opening a journal merges its files and takes one to write to; here it is only asked.
        if storage.is_remote(journal_uri):
            storage.fetch(journal_uri, Path(scratch))
        else:
            shutil.copytree(journal_uri, scratch, dirs_exist_ok=True)
        with Journal(scratch) as journal:
            asked = config.llm_precision
            settled = kept(llm_uri, revision=config.llm_revision, journal_uri=scratch) if asked == AUTO else None
            name = model_name(
                llm_uri,
                revision=config.llm_revision,
                quantization=config.vllm_quantization,
                precision=settled.precision if settled else asked,
            )
            changes = {"endpoint_omit": config.endpoint_omit, "endpoint_rename": config.endpoint_rename}
            yield Paid(journal, journal_model(name, llm_uri, **changes))


def _measured(workdir: Path, method: str) -> Assumptions | None:
    finished = [path for path in sorted(workdir.glob("annotations*")) if (path / "manifest.json").exists()]
    same = [path for path in finished if read_manifest(str(path)).config["method"] == method]
    journal = workdir / "journal"
    if not same or not journal.exists():
        return None
    texts = {key: value["text"] for key, value in read_journal(str(journal)) if value["template"] == "answer"}
    return measured_assumptions(
        chain.from_iterable(read_records(path / ANNOTATIONS_NAME, Annotation) for path in same), texts
    )


def _golds(dataset: Dataset, utility_labels: str) -> list[Gold]:
    return [qrels_gold(dataset), *([read_utility_labels(utility_labels)] if utility_labels else [])]


def _place(usual: Path, recorded: str) -> str:
    return str(usual) if usual.exists() else recorded
