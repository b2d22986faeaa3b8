"""`retriever ...` as a person types it, in this process: exit code, standard output and standard error."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from pipelines import cli

COMPILED = (
    "--profile kind --name squad --set prepare.collection_uri=memory://corpora/squad "
    "--set encoder.checkpoint_uri=sentence-transformers/all-MiniLM-L6-v2 --set annotate.engine=endpoint "
    "--set annotate.endpoint_uri=http://llm.search:8000/v1 --set annotate.llm_uri=Qwen/Qwen2.5-7B-Instruct"
)
ON_ARGO = f"--target argo --artifact-root memory://runs/squad {COMPILED}"
ON_KUBEFLOW = f"--target kfp --state-uri memory://runs/squad/state {COMPILED}"


class Said(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


class Typed:
    """Runs commands."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys, self._patch = capsys, patch
        patch.setattr(cli, "heed_lost_stops", lambda: None)

    def __call__(self, command: str, *more: str) -> Said:
        self._patch.setattr(sys, "argv", ["retriever", *command.split(), *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Said(int(ended.value.code or 0), out, err)
