"""The names of the one encoder: a name says whether a text is taken for a query or for a passage.

Clients of OpenAI and of the Open Inference Protocol have a field for the model and none for the kind of text, so the
kind is part of the name: `<name>-query` and `<name>-passage`. The bare name is the query's.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException

from components.serve.protocols.bodies import InputType


def model_names(model_name: str) -> Mapping[str, InputType]:
    """Every name of the encoder with the kind of text that it stands for."""
    return {model_name: "query", f"{model_name}-query": "query", f"{model_name}-passage": "passage"}


def check_model(model_name: str, given: str) -> None:
    """Refuses a name that is none of the encoder's with 404."""
    names = model_names(model_name)
    if given not in names:
        raise HTTPException(404, f"no such model: {given!r}; this server has {', '.join(names)}")


def chosen_input_type(model_name: str, given: str, input_type: InputType | None) -> InputType:
    """What the texts of a request are: as `input_type` says, else as the model's name says.

    Raises:
        HTTPException: 404 where the name is unknown, 400 where name and `input_type` contradict each other.
    """
    check_model(model_name, given)
    named = model_names(model_name)[given]
    if given != model_name and input_type not in (None, named):
        raise HTTPException(
            400, f"input_type: {input_type!r} contradicts the model's name {given!r}; leave one of the two out"
        )
    return input_type or named
