"""The suite file: which systems meet which collections, and which comparisons are claims. TOML, or the same as JSON.

    measures = "nDCG@10 R@100"                # the first one is the primary measure
    comparisons = [["trained", "base"]]       # the claims; everything else on the page only describes

    [[collections]]
    name = "scifact"
    dataset = "work/scifact/dataset"          # an artifact of prepare

    [[systems]]
    name = "trained"
    kind = "encoder"                          # bm25, encoder, hybrid or run
    encoder = "work/encoder"
    index = "work/{collection}/index"         # {collection} becomes the collection's name

Everything is checked before anything is searched: an unknown name is refused with the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import orjson

from components.evaluate.measures import parse_measures
from components.shared.durable import storage

Kind = Literal["bm25", "encoder", "hybrid", "run"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PLACEHOLDER = "{collection}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What each kind of system must name.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "bm25": (),
    "encoder": ("encoder", "index"),
    "hybrid": ("encoder", "index"),
    "run": ("run",),
}
Row = TypeVar("Row", "System", "Collection")


@dataclass(frozen=True, kw_only=True)
class System:
    """One system; `{collection}` in an address becomes the collection's name.

    Attributes:
        name: Its key in files and tables.
        kind: What it does with a query.
        label: What the page calls it; empty: its name.
        encoder: Artifact of export.
        index: Artifact of index, of this encoder.
        run: TREC run file that was made elsewhere; it is read as trec_eval reads it.
        annotations: Annotations that the encoder learned from, separated by commas: their quality and cost stand
            beside its figures.
        collections: Names of those that it is searched on; empty: all.
        axis: What a row of systems goes along, such as `human share` or `curriculum stage`; each axis is a chart.
        position: Where on its axis the system stands.
    """

    name: str
    kind: Kind
    label: str = ""
    encoder: str = ""
    index: str = ""
    run: str = ""
    annotations: str = ""
    collections: tuple[str, ...] = ()
    axis: str = ""
    position: float = 0.0

    def address(self, field: str, collection: str) -> str:
        """The address in a field for one collection."""
        return str(getattr(self, field)).replace(PLACEHOLDER, collection)

    def meets(self, collection: str) -> bool:
        """Whether it is searched on a collection."""
        return not self.collections or collection in self.collections


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One collection and how it is measured.

    Attributes:
        name: Its key in files and tables.
        dataset: Artifact of prepare.
        split: Of the queries.
        domain: `in` where encoders learned from its training queries, `out` where they never saw it; averages are of
            each and of all.
        group: Collections of one group count as one in every average, by their mean (CQADupStack's forums).
        min_grade: Smallest grade that counts as relevant in binary measures; TREC DL uses 2.
        self_matches: `drop` leaves out hits that are the query itself (ArguAna, Quora), `keep` leaves them in.
        topics: Tab-separated file of query id and topic, where queries share topics; empty: each is its own.
        frequencies: Tab-separated file of query id and the number of times that it was asked, or of sessions that
            asked it; the page then shows rare and frequent queries apart. Empty: unknown.
        annotations: Annotations that judge the split where no person did, separated by commas.
    """

    name: str
    dataset: str
    split: str = "test"
    domain: Literal["in", "out"] = "out"
    group: str = ""
    min_grade: int = 1
    self_matches: Literal["drop", "keep"] = "drop"
    topics: str = ""
    frequencies: str = ""
    annotations: str = ""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked suite file.

    Attributes:
        systems: In the order of tables and colours.
        collections: In the order of tables.
        comparisons: Pairs (system, against); Holm's correction is over these on all collections, in the first measure.
        measures: By their ir-measures names, separated by spaces; the first one is the primary measure.
        depth: Hits of each query.
        confidence: Of intervals and claims.
        num_resamples: Bootstrap samples behind each interval.
        seed: Of the bootstrap.
        allow_unlike: Whether encoders may be compared that differ in lengths, pooling, prefixes or kind of index.
        title: Heading of the page.
    """

    systems: tuple[System, ...]
    collections: tuple[Collection, ...]
    comparisons: tuple[tuple[str, str], ...]
    measures: str = "nDCG@10 RR@10 R@100"
    depth: int = 100
    confidence: float = 0.95
    num_resamples: int = 10000
    seed: int = 42
    allow_unlike: bool = False
    title: str = "Retrieval evaluation"

    @property
    def labels(self) -> dict[str, str]:
        """What the page calls each system."""
        return {system.name: system.label or system.name for system in self.systems}

    def cells(self) -> Iterator[tuple[Collection, System]]:
        """Every system on every collection that it meets."""
        for collection in self.collections:
            for system in self.systems:
                if system.meets(collection.name):
                    yield collection, system


def read_suite(uri: str) -> Suite:
    """The suite of a file.

    Raises:
        ValueError: One line for everything that is wrong with it.
    """
    return parse_suite(read_values(uri), where=uri)


def read_values(uri: str) -> dict[str, Any]:
    """What a suite file holds, unchecked; JSON where its name ends so.

    Raises:
        ValueError: Where it is not readable.
    """
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError as error:
        raise ValueError(f"{uri}: no such suite file; pipelines/suites holds some to start from") from error
    try:
        values = orjson.loads(content) if uri.endswith(".json") else tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, orjson.JSONDecodeError) as error:
        raise ValueError(
            f"{uri}: not a suite file ({error}); a suite file is TOML, or JSON by the name of it"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"{uri}: a table of systems and collections is wanted")
    return values


def parse_suite(values: Mapping[str, Any], *, where: str) -> Suite:
    """The suite that the values of a file make.

    Raises:
        ValueError: One line for everything that is wrong with it.
    """
    problems: list[str] = list(_misfits(values, Suite, "the suite"))
    systems = _rows(values.get("systems"), System, "systems", problems)
    collections = _rows(values.get("collections"), Collection, "collections", problems)
    problems += [
        f'comparisons {pair!r}: write two names of systems, such as ["trained", "base"]'
        for pair in values.get("comparisons", ())
        if not isinstance(pair, list) or len(pair) != 2
    ]
    if not problems:
        given = {name: value for name, value in values.items() if name not in ("systems", "collections")}
        pairs = tuple((str(pair[0]), str(pair[1])) for pair in given.pop("comparisons", ()))
        types = get_type_hints(Suite)
        chosen = {name: _as_field(value, types[name]) for name, value in given.items()}
        suite = Suite(**chosen, systems=systems, collections=collections, comparisons=pairs or _default_pairs(systems))
        problems += _contradictions(suite)
    if problems:
        raise ValueError("\n".join(f"{where}: {problem}" for problem in problems))
    return suite


def addresses(suite: Suite) -> list[str]:
    """Everything that the suite names and that decides its result, each once, in its order."""
    named = [
        address
        for collection in suite.collections
        for address in (
            collection.dataset,
            collection.topics,
            collection.frequencies,
            *collection.annotations.split(","),
        )
    ]
    for collection, system in suite.cells():
        named += [system.address(field, collection.name) for field in ("encoder", "index", "run")]
        named += system.address("annotations", collection.name).split(",")
    return [address for address in dict.fromkeys(named) if address]


def _default_pairs(systems: Sequence[System]) -> tuple[tuple[str, str], ...]:
    """Every other system against the first."""
    return tuple((system.name, systems[0].name) for system in systems[1:])


def _rows(given: object, row: type[Row], table: str, problems: list[str]) -> tuple[Row, ...]:
    if not isinstance(given, list) or not given:
        problems.append(f"no {table}; write a table [[{table}]] for each")
        return ()
    rows = []
    for number, values in enumerate(given, start=1):
        what = f"{table} {values.get('name', number) if isinstance(values, dict) else number}"
        if wrong := list(_misfits(values, row, what)):
            problems += wrong
        else:
            types = get_type_hints(row)
            rows.append(row(**{name: _as_field(value, types[name]) for name, value in values.items()}))
    return tuple(rows)


def _misfits(values: object, row: type[Any], what: str) -> Iterator[str]:
    """What does not fit a class's fields: unknown and missing names, values of a wrong type."""
    if not isinstance(values, Mapping):
        yield f"{what}: a table is wanted, not {values!r}"
        return
    types, known = get_type_hints(row), {declared.name: declared for declared in dataclasses.fields(row)}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            yield f"{what}: unknown {name!r}; {remedy}"
        elif not _fits(value, types[name]):
            choices = get_args(types[name])
            wanted = " or ".join(map(repr, choices)) if isinstance(value, str) and choices else "another type of value"
            yield f"{what}: {name} = {value!r}; wanted is {wanted}"
    for name, declared in known.items():
        # Comparisons have a default that depends on the systems.
        if declared.default is dataclasses.MISSING and name not in values and row is not Suite:
            yield f"{what}: {name} is missing"


def _as_field(value: object, wanted: Any) -> Any:  # noqa: ANN401 the value of a field
    """The value as its field has it: a tuple for a list, and a float for a whole number."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if wanted is float and isinstance(value, int) else value


def _fits(value: object, wanted: Any) -> bool:  # noqa: ANN401 a type hint
    if isinstance(value, list):
        return getattr(wanted, "__origin__", None) is tuple
    if choices := [choice for choice in get_args(wanted) if isinstance(choice, str)]:
        return value in choices
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(wanted, type) and type(value) is wanted


def _contradictions(suite: Suite) -> Iterator[str]:
    for table, rows in (("systems", suite.systems), ("collections", suite.collections)):
        names = [row.name for row in rows]
        yield from (f"{table} {name}: named twice" for name in sorted({n for n in names if names.count(n) > 1}))
        yield from (
            f"{table} {name!r}: a name is letters, digits, dots, hyphens and underscores"
            for name in names
            if not _NAME.fullmatch(name)
        )
    known = {system.name: system for system in suite.systems}
    for system in suite.systems:
        yield from (
            f"systems {system.name}: kind {system.kind} needs {needed}"
            for needed in _NEEDS[system.kind]
            if not getattr(system, needed)
        )
        strangers = set(system.collections) - {collection.name for collection in suite.collections}
        yield from (f"systems {system.name}: there is no collection {name!r}" for name in sorted(strangers))
    for pair in suite.comparisons:
        yield from (f"comparisons {list(pair)}: there is no system {name!r}" for name in pair if name not in known)
        if pair[0] == pair[1]:
            yield f"comparisons {list(pair)}: a system cannot be compared with itself"
    if not suite.comparisons:
        yield "nothing to compare: name two systems at least"
    yield from _bad_numbers(suite)


def _bad_numbers(suite: Suite) -> Iterator[str]:
    if not 0 < suite.confidence < 1:
        yield f"confidence = {suite.confidence}: must lie between 0 and 1, such as 0.95"
    for name in ("depth", "num_resamples"):
        if getattr(suite, name) < 1:
            yield f"{name} = {getattr(suite, name)}: must be at least 1"
    for collection in suite.collections:
        if collection.min_grade < 1:
            yield f"collections {collection.name}: min_grade = {collection.min_grade}: must be at least 1"
    try:
        if len(parse_measures(suite.measures, min_grade=1)) != len(suite.measures.split()):
            yield f"measures = {suite.measures!r}: one is named twice; leave it out"
    except ValueError as error:
        yield str(error)
