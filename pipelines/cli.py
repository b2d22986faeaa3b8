"""The commands of a person: `retriever demo | run | compare | submit | watch | serve | search`, and the others below.

Commands alone print: results go to standard output, everything that happens on the way to standard error.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import tyro

from components.annotate.cost.estimate import Throughput
from components.evaluate.summary import summary_table
from components.prepare.config import DocsConfig
from components.shared import log
from components.shared.calls.tally import Prices
from components.shared.contract.stopping import heed_lost_stops
from components.shared.durable.stores import StoreError
from components.shared.launch import (
    EXIT_BAD_DATA,
    EXIT_OK,
    EXIT_TERMINATED,
    EXIT_TRANSIENT,
    EXIT_USAGE,
    TransientError,
)
from pipelines.cluster import copying, sizing
from pipelines.commands.doctor import checks
from pipelines.commands.drift import drift
from pipelines.commands.queries import with_queries
from pipelines.commands.releases import is_served, promote, releases, rollback
from pipelines.commands.search import as_json, readable
from pipelines.commands.search import search as ask
from pipelines.compare.command import compare as compare_arms
from pipelines.flow import Settings
from pipelines.local import LocalStep, StepError, Tally, plan, run_steps
from pipelines.operate.command import compile_pipeline, schedule, status, submit, watch
from pipelines.operate.options import PARAMS
from pipelines.settings import SettingsError, continued, missing, read_settings
from pipelines.suites.command import evaluate, gate


def demo(workdir: Path = Path(".retriever/demo"), params: Path = PARAMS / "demo.yaml") -> int:
    """Trains and measures a retriever on the documentation of the Python packages installed here.

    Args:
        workdir: Where everything goes; a second run continues there, or does nothing.
        params: Parameter file.
    """
    collection = workdir / "collection"
    settings = read_settings(params, [f"prepare.collection_uri={collection}"])
    collect = LocalStep("collect the documentation", "components.prepare.docs", DocsConfig(output_uri=str(collection)))
    return _run(settings, workdir, [collect])


def run(
    data: Path,
    workdir: Path = Path(".retriever/run"),
    params: Path = PARAMS / "laptop.yaml",
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),  # noqa: A002
    continue_from: str = "",
) -> int:
    """Trains and measures a retriever on your own corpus, with or without human qrels.

    Where there are no queries, an LLM writes them; everything measured with those is synthetic, and says so.

    Args:
        data: Folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv where there are any. A
            folder without corpus.jsonl is read as documents: .txt, .md, .rst, .html, .pdf, .jsonl and so on.
        workdir: Where everything goes; a second run continues there, or does only what changed.
        params: Parameter file.
        set: One setting over the file's, such as --set mine.num_queries=200; may be repeated.
        continue_from: Store of releases: training starts from the encoder that is served there, which the gate then
            compares with, and what passes is promoted. Nothing is done where what is served was made of this data.
    """
    settings = read_settings(params, [*set, f"prepare.collection_uri={data}"])
    if continue_from:
        if served := is_served(continue_from, str(data)):
            print(
                f"{data}: release {served.release}, which is served, was made of it; nothing to do (without "
                "--continue-from it runs)"
            )
            return EXIT_OK
        settings = continued(settings, continue_from)
    return _run(with_queries(settings, data), workdir, [])


@functools.wraps(compare_arms)
def compare(**given: Any) -> int:  # noqa: ANN401, D103 signature and words are those of what it wraps
    text, tally = compare_arms(**given)
    print(f"{text}\n{_summary(tally)}")
    return EXIT_OK


def serve(workdir: Path = Path(".retriever/demo"), host: str = "127.0.0.1", port: int = 8080, sample: str = "") -> int:
    """Serves the trained encoder and index of a work folder.

    Args:
        workdir: Work folder of a finished run.
        host: Address to listen on.
        port: Port to listen on.
        sample: Folder for a random sample of the answered queries, which `retriever drift` reads; empty: none is kept.
    """
    from pipelines.commands.labels import dataset_folder

    places = [f"--{name}-uri={workdir / name}" for name in ("encoder", "index")]
    places.append(f"--dataset-uri={dataset_folder(workdir)}")
    if sample:
        places.append(f"--sample-uri={sample}")
    # Replaces this process, so that signals reach the server itself.
    os.execv(sys.executable, [sys.executable, "-m", "components.serve", *places, f"--host={host}", f"--port={port}"])


def search(
    query: tyro.conf.Positional[str],
    url: str = "http://127.0.0.1:8080",
    depth: int = 10,
    mode: Literal["default", "dense", "bm25", "hybrid"] = "default",
    passage_ids: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    truncate: bool = False,
    json: bool = False,
) -> int:
    """Asks a running server; where it wants an API key, RETRIEVER_API_KEY holds it.

    Args:
        query: What to look for.
        url: Address of the server.
        depth: Passages wanted.
        mode: By the encoder's vectors, by shared words, or by both; default is what the release says.
        passage_ids: Search among these only; may be repeated.
        truncate: Cut a query that is too long, instead of having it refused.
        json: One JSON object instead of readable lines.
    """
    chosen = None if mode == "default" else mode
    ranking = ask(query, url=url, depth=depth, mode=chosen, passage_ids=passage_ids, truncate=truncate)
    print(as_json(ranking) if json else readable(ranking))
    return EXIT_OK


def estimate(
    workdir: Path,
    params: Path = PARAMS / "laptop.yaml",
    data: Path | None = None,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),  # noqa: A002
    sample: int = 200,
    engine_hour_dollars: float = 0.0,
    num_engines: int = 1,
    prompt_tokens_per_second: float = 0.0,
    completion_tokens_per_second: float = 0.0,
    prompt_million_dollars: float = 0.0,
    cached_million_dollars: float = 0.0,
    completion_million_dollars: float = 0.0,
    human_label_dollars: float = 0.09,
    fixed_dollars: float = 0.0,
) -> int:
    """Says what asking, annotating and answering will cost before it is spent, and where it is cheaper than people.

    Where an LLM is to write the queries and has not yet, that comes first: only then is it known what is to annotate.
    Nothing is written into the work folder: where its pools are missing, or were made with other settings, they are
    made in a cache.

    Args:
        workdir: Work folder; it must hold the pools, or --data must be given.
        params: Parameter file.
        data: Collection in BEIR layout: the flow runs up to its pools first (CPU only, no LLM).
        set: One setting over the file's, such as --set annotate.method=utility_ranking; may be repeated.
        sample: Queries whose prompts are counted; the rest is scaled.
        engine_hour_dollars: Own machines: price of an hour of one engine's GPUs.
        num_engines: Engines that work at the same time.
        prompt_tokens_per_second: Own machines: of one engine.
        completion_tokens_per_second: Own machines: of one engine.
        prompt_million_dollars: An API's price of a million prompt tokens.
        cached_million_dollars: An API's price of a million prompt tokens in its cache.
        completion_million_dollars: An API's price of a million completion tokens.
        human_label_dollars: A person's price for judging one passage.
        fixed_dollars: What is spent before the first label: setting up, a gold set.
    """
    settings = _to_quote_for(params, data, set)
    from pipelines.commands import labels, quotes  # heavy: no error in a setting should wait for them

    prices = Prices(
        engine_hour=engine_hour_dollars,
        prompt_million=prompt_million_dollars,
        cached_million=cached_million_dollars,
        completion_million=completion_million_dollars,
        human_label=human_label_dollars,
    )
    throughput = Throughput(
        prompt_tokens=prompt_tokens_per_second, completion_tokens=completion_tokens_per_second, num_engines=num_engines
    )
    if not quotes.is_asked(settings, workdir):
        return _say(quotes.asking_lines(settings, workdir, prices=prices, throughput=throughput))
    with labels.pools_folder(settings, workdir, make=data is not None) as folder:
        quote = labels.quote(
            settings, folder, workdir, sample=sample, prices=prices, throughput=throughput, fixed_dollars=fixed_dollars
        )
        answering = quotes.answering_lines(settings, folder, workdir, prices=prices, throughput=throughput)
    return _say([*labels.quote_lines(quote), *answering])


def _to_quote_for(params: Path, data: Path | None, assignments: Sequence[str]) -> Settings:
    """Pools that are there already need nothing of what makes them."""
    if data is None:
        return read_settings(params, assignments)
    settings = with_queries(read_settings(params, [*assignments, f"prepare.collection_uri={data}"]), data)
    if problems := missing(settings):
        raise SettingsError(problems)
    return settings


def _say(lines: Iterable[str]) -> int:
    print("\n".join(lines))
    return EXIT_OK


def trace(query_id: tyro.conf.Positional[str], workdir: Path = Path(".retriever/run")) -> int:
    """Tells the whole story of one query's labels: prompts, completions, outcomes, costs.

    Args:
        query_id: Whose labels.
        workdir: Work folder with the annotations.
    """
    from pipelines.commands import labels

    print(labels.tell(workdir, query_id))
    return EXIT_OK


def quality(
    annotations: Annotated[tuple[str, ...], tyro.conf.UseAppendAction],
    dataset: Path,
    output: Path,
    utility_labels: str = "",
) -> int:
    """Writes one label-quality page over several annotations, such as those of two methods, side by side.

    Args:
        annotations: name=folder, or name=folder,folder for shards; may be repeated.
        dataset: Dataset of prepare, for its human qrels.
        output: Folder for quality.html and quality.json.
        utility_labels: File of human utility labels: tab-separated query id, passage id, 0 or 1, below a header line.
    """
    from pipelines.commands import labels

    print(labels.side_by_side(annotations, dataset, utility_labels, output))
    return EXIT_OK


def copy(source: tyro.conf.Positional[str], target: tyro.conf.Positional[str]) -> int:
    """Copies a folder or file into a bucket, or out of it, replacing what stood there.

    Args:
        source: Local path, or gs:// or s3:// address.
        target: The other of the two.
    """
    print(f"{copying.copy(source, target)} files: {target}")
    return EXIT_OK


def size(encoder_uri: str, index_uri: str, dataset_uri: str = "", cpu: str = "2") -> int:
    """Prints the patch with the memory and disk that a server of these artifacts needs (k8s/README.md).

    Args:
        encoder_uri: Encoder of export, local or in a bucket.
        index_uri: Index made by that encoder.
        dataset_uri: Dataset whose passages are sent with the hits; empty: none.
        cpu: Cores asked for; the server runs as many threads.
    """
    print(sizing.patch(encoder_uri, index_uri, dataset_uri, cpu=cpu), end="")
    return EXIT_OK


def doctor() -> int:
    """Says what this machine has of what the commands need, and how to get the rest."""
    failed = 0
    for check in checks():
        print(
            f"{'ok     ' if check.ok else 'MISSING'} {check.name:<26} {check.state}"
            + ("" if check.ok else f"  -> {check.remedy}")
        )
        failed += not check.ok and check.required
    return EXIT_BAD_DATA if failed else EXIT_OK


COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "run": run,
    "compare": compare,
    "evaluate": evaluate,
    "gate": gate,
    "estimate": estimate,
    "trace": trace,
    "quality": quality,
    "compile": compile_pipeline,
    "submit": submit,
    "schedule": schedule,
    "status": status,
    "watch": watch,
    "promote": promote,
    "releases": releases,
    "rollback": rollback,
    "drift": drift,
    "serve": serve,
    "search": search,
    "copy": copy,
    "size": size,
    "doctor": doctor,
}


def main() -> None:
    """Runs the command and exits with its code."""
    heed_lost_stops()
    try:
        code: int = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="retriever", description=__doc__)
    except StepError as error:
        log.error(
            "stopped",
            problem=str(error),
            remedy="mend what the step named and run the same command again; finished steps are kept",
        )
        code = error.code
    except SettingsError as error:
        for problem in error.problems:
            log.error("a setting cannot work", problem=problem)
        code = EXIT_USAGE
    except (ValueError, FileNotFoundError) as error:
        log.error("stopped", problem=str(error))
        code = EXIT_BAD_DATA
    except (TransientError, StoreError) as error:
        log.error("stopped", problem=str(error), remedy="run the same command again later")
        code = EXIT_TRANSIENT
    except KeyboardInterrupt:
        log.error("interrupted", remedy="run the same command again; it continues")
        code = EXIT_TERMINATED
    sys.exit(code)


def _run(settings: Settings, workdir: Path, first: list[LocalStep]) -> int:
    if problems := missing(settings):
        raise SettingsError(problems)
    steps = first + plan(settings, workdir)
    tally = run_steps(steps)
    evaluation = workdir / "evaluation"
    print(summary_table(orjson.loads((evaluation / "metrics.json").read_bytes())))
    print(f"\n{_summary(tally)}")
    print(f"report: {(evaluation / 'report.html').resolve()}")
    if any(step.component == "answer" for step in steps):
        print(f"answers: {(workdir / 'answers' / 'report.html').resolve()}")
    print(f"serve:  retriever serve --workdir {workdir}")
    return EXIT_OK


def _summary(tally: Tally) -> str:
    if not tally.executed:
        return f"nothing to do: all {tally.skipped} steps were done already, with the same inputs, settings and code"
    peak = f"largest step {tally.peak_mebibytes:.0f} MiB" if tally.peak_mebibytes else ""
    return f"{tally.executed} steps executed, {tally.skipped} unchanged; {tally.seconds:.0f} s, {peak}"


if __name__ == "__main__":
    main()
