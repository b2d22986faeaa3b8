"""Milvus's structures in FAISS's words, so that one factory string and one search parameter mean the same in both."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Links of FAISS's own default build only half as carefully as this, which Milvus needs to be told.
_EF_CONSTRUCTION = 80
_KNOWN = "Flat, HNSW<links>, IVF<lists>,Flat and IVF<lists>,SQ8"


@dataclass(frozen=True)
class Structure:
    """An index of Milvus.

    Attributes:
        index_type: Its name there.
        build: Its parameters when it is built.
        effort: FAISS's name of what says how deep it is searched; empty where it searches all.
        most: Largest value of that; 0: the number of passages.
        bytes_a_component: Of a vector in a list.
    """

    index_type: str
    build: dict[str, int]
    effort: str = ""
    most: int = 0
    bytes_a_component: int = 4


def parse_factory(factory: str) -> Structure:
    """The structure of a FAISS factory string.

    Raises:
        ValueError: Where Milvus has no such structure.
    """
    if factory == "Flat":
        return Structure("FLAT", {})
    if match := re.fullmatch(r"HNSW(\d+)(,Flat)?", factory):
        if 2 <= int(match[1]) <= 2048:
            return Structure("HNSW", {"M": int(match[1]), "efConstruction": _EF_CONSTRUCTION}, "efSearch")
        raise ValueError(f"factory {factory!r}: Milvus takes 2 to 2048 links")
    if match := re.fullmatch(r"IVF(\d+),(Flat|SQ8)", factory):
        if 1 <= int(match[1]) <= 65_536:
            index_type, component = ("IVF_FLAT", 4) if match[2] == "Flat" else ("IVF_SQ8", 1)
            return Structure(index_type, {"nlist": int(match[1])}, "nprobe", int(match[1]), component)
        raise ValueError(f"factory {factory!r}: Milvus takes 1 to 65536 lists")
    raise ValueError(f"factory {factory!r}: not among those that Milvus has too; write one of {_KNOWN}, or auto")


def milvus_factory_problem(factory: str) -> str:
    """Why Milvus cannot make an index of a factory string; empty where it can."""
    try:
        parse_factory(factory)
    except ValueError as error:
        return str(error).partition(": ")[2]
    return ""


def parse_effort(structure: Structure, search_parameters: str) -> int:
    """The value of a search parameter such as nprobe=32; 0 where none is given.

    Raises:
        ValueError: Where the structure has no such parameter.
    """
    if not search_parameters:
        return 0
    name, _, value = search_parameters.partition("=")
    if not structure.effort or name != structure.effort or not value.isdecimal() or int(value) < 1:
        known = f"write {structure.effort}=<number>" if structure.effort else "it has none, because it searches all"
        raise ValueError(f"search parameters {search_parameters!r}: not of a {structure.index_type} of Milvus; {known}")
    if structure.most and int(value) > structure.most:
        raise ValueError(f"search parameters {search_parameters!r}: the index has {structure.most} lists")
    return int(value)
