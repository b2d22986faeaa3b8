"""What asking will cost, before it is spent: the real prompts, a real tokenizer, and replies of an assumed length."""

from __future__ import annotations

from components.ask.config import AskConfig
from components.ask.sampling import draw
from components.ask.styles import STYLES
from components.ask.writing import source_text, weigh_query, write_query
from components.shared.bm25 import BM25
from components.shared.calls.dry import Dry, add_tallies
from components.shared.calls.journalled import Paid
from components.shared.calls.sampling import profile_of
from components.shared.calls.tally import Tally
from components.shared.dataset import Dataset
from components.shared.engines.engine import Tokenizer
from components.shared.hashing import content_key

# A reply of the length that instruction models write, measured on SmolLM2-135M and SciFact: 14 words a query.
_REPLY = "What does the treatment change in patients who took it for several years before the study?"


def estimate_asking(
    dataset: Dataset, bm25: BM25, config: AskConfig, tokenizer: Tokenizer, paid: Paid | None, *, sample: int = 200
) -> tuple[dict[str, Tally], int]:
    """Calls and tokens by template, scaled from a sample of each style's queries, and how many calls are paid already.

    Every query is assumed to be read at the first try and to come to the likelihood test, where there is one.
    """
    assignments = draw(dataset, config, bm25).assignments
    profile = profile_of(config.llm_uri, config.sampling_profile, sampling_temperature=config.sampling_temperature)
    tallies: dict[str, Tally] = {}
    num_paid = 0.0
    for style in STYLES:
        of_style = [assignment for assignment in assignments if assignment.style == style]
        drawn = sorted(of_style, key=lambda assignment: content_key("estimate", assignment.query_id))[:sample]
        dry = Dry(tokenizer, lambda *_: _REPLY, paid)
        for assignment in drawn:
            dry.run(write_query(assignment, config, profile))
            if config.min_likelihood_gain:
                text = source_text(assignment, config)
                dry.run(weigh_query(assignment.query_id, _REPLY, text, text))
        factor = len(of_style) / max(1, len(drawn))
        num_paid += dry.num_paid * factor
        add_tallies(tallies, dry.tallies, factor=factor)
    return tallies, round(num_paid)
