"""Which tokens a transformer's first token sees: of a decoder only itself, of an encoder all.

It is measured and not read from a config: classes of one family know the flag under several names, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from components.shared import log

# Flags that a config may hold, and what they say of attention: True where a token sees those behind it.
_SAYS: dict[str, Callable[[object], bool]] = {"is_causal": lambda value: not value, "use_bidirectional_attention": bool}


def is_causal(transformer: PreTrainedModel) -> bool:
    """Whether a token sees only those before it: then the last token alone has seen the whole text.

    Measured on two short texts that differ in their last token.
    """
    was_training = transformer.training
    transformer.eval()
    first = min(10, int(transformer.config.vocab_size) - 4)
    ids = torch.tensor([[first, first + 1, first + 2], [first, first + 1, first + 3]], device=transformer.device)
    with torch.inference_mode():
        states = transformer(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    transformer.train(was_training)
    # Not to the last bit: the two rows of one product may be summed in another order.
    return bool((states[0, 0] - states[1, 0]).abs().max() <= 1e-6 * states.abs().max())


def check_attention(uri: str, transformer: PreTrainedModel, pooling: str, *, causal: bool) -> None:
    """Refuses attention that is not what the config says, and a pooling that sees nothing of a text.

    Raises:
        ValueError: Naming the flag, or the pooling.
    """
    # What differs from the class's defaults: these follow the class, whatever they say. Its type is not declared.
    config: Any = transformer.config
    said: dict[str, object] = config.to_diff_dict()
    for name, sees_ahead in _SAYS.items():
        value = said.get(name)
        if value is not None and sees_ahead(value) == causal:
            raise ValueError(
                f"{uri}: config.json: {name} {value}, but {type(transformer).__name__} does not do so: a token sees "
                f"{'only those before it' if causal else 'those behind it too'}; give a model that transformers loads "
                "as its makers meant it"
            )
    if not causal:
        return
    if "cls" in pooling.split("+"):
        raise ValueError(
            f"{uri}: pooling cls of a decoder, whose first token sees none of the others: all texts would have nearly "
            "one vector; set pooling to last"
        )
    if pooling == "mean":
        log.warning("pooling mean of a decoder, whose first tokens see little of a text; last is usual", model=uri)
