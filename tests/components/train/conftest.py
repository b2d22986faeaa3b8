"""What the training tests share."""

from pathlib import Path

import pytest

from tests.components.train.learnable import write_inputs


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Dataset, two shards of annotations and a base model, as folders."""
    return write_inputs(tmp_path)
