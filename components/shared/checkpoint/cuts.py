"""How many components of a vector are kept, and to how many it may be cut: what was asked, else the folder's word."""

from __future__ import annotations

from dataclasses import replace

from components.shared import log
from components.shared.checkpoint.model import DualEncoder, DualEncoderSettings
from components.shared.encoding.matryoshka import AUTO, NONE, parse_cuts


def with_cuts(
    uri: str, model: DualEncoder, *, dimensions: int, matryoshka: str, declared: tuple[int, ...]
) -> DualEncoderSettings:
    """The settings of a model with its cuts.

    Args:
        uri: The model, for messages.
        model: Loaded, with the settings of its folder.
        dimensions: Components that are kept before the scaling; 0 leaves it to the folder.
        matryoshka: Numbers of components that vectors may be cut to, as the setting says them.
        declared: Those of the folder.

    Raises:
        ValueError: Where a vector has not as many.
    """
    settings, full = model.settings, model.full_dimension
    if dimensions > full:
        raise ValueError(f"{uri}: dimensions {dimensions}, but vectors of this model have {full}; set {full} or less")
    if dimensions and not 0 < settings.dimensions <= dimensions:
        if dimensions < full and dimensions not in declared:
            log.warning(
                "vectors are cut to a number of dimensions that the model's folder does not declare",
                dimensions=dimensions,
                declared=list(declared),
            )
        # What is cut before the scaling needs no cut after it.
        settings = replace(settings, dimensions=dimensions if dimensions < full else 0, truncate_dimension=0)
    kept = min(full, settings.dimensions or full, settings.truncate_dimension or full)
    cuts = parse_cuts(matryoshka)
    if cuts and cuts[0] > kept:
        raise ValueError(
            f"{uri}: matryoshka {matryoshka}: vectors of this model have {kept} dimensions; set smaller numbers, "
            f"{AUTO} or {NONE}"
        )
    return replace(settings, matryoshka=tuple(cut for cut in (declared if cuts is None else cuts) if cut < kept))
