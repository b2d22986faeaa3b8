"""What a person types; what is heavy is imported when it runs, so that no other command waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipelines.local import Tally
from pipelines.settings import SettingsError

_PARAMS = Path(__file__).parents[1] / "params" / "laptop.yaml"


def compare(
    data: Path,
    arms: str = "base,hybrid,human,llm,both,teacher,teacher+human,teacher+llm",
    own: Path | None = None,
    seeds: int = 3,
    test: Literal["all", "chosen", "none"] = "all",
    workdir: Path = Path(".retriever/compare"),
    params: Path = _PARAMS,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),  # noqa: A002
) -> tuple[str, Tally]:
    """Says on one page what each ingredient of a recipe is worth and costs, on your own corpus.

    Steps in which arms do not differ run once. About 200 MB a trained arm and seed with the packaged encoder.

    Args:
        data: As for run.
        arms: Names separated by commas; also lsepair, teacher+human+llm, interpolated, two-rounds, params (the
            parameter file as it is), and those of the file own.
        own: YAML file with a list of more arms: name, sentence, settings ({section: {setting: value}}) or extends.
        seeds: Trainings of each arm.
        test: all reads test for every arm, chosen for the one that is best on dev, none leaves test unread.
        workdir: Where everything goes; a second call continues there, or does nothing.
        params: Parameter file that all arms share.
        set: One setting over the file's, for all arms that do not decide it themselves; may be repeated.
    """
    from pipelines.compare.arms import chosen_arms
    from pipelines.compare.built_in import BUILT_IN
    from pipelines.compare.planning import Given
    from pipelines.compare.run import compare as run_arms

    if seeds < 1:
        raise SettingsError([f"--seeds {seeds}: must be at least 1"])
    given = Given(data, params, workdir.resolve(), chosen_arms(arms, BUILT_IN, own), seeds, set)
    tally = run_arms(given, test=test).tally
    page = (workdir / "compare.html").resolve()
    return f"{(workdir / 'compare.md').read_text('utf-8')}\npage: {page}", tally
