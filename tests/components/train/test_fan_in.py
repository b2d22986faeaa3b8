"""Shards are joined only where nothing is missing, doubled, mixed or mostly in quarantine."""

from pathlib import Path

import pytest

from components.annotate.config import AnnotateConfig
from components.shared.manifest import artifact_writer
from components.shared.records import Annotation, write_records
from components.train.labels.fan_in import check_shards


def write_shard(
    folder: Path,
    *,
    shard: int,
    num_shards: int = 2,
    lines: int = 4,
    said: int = 4,
    quarantined: int = 1,
    seed: int = 42,
    model: str = "llm",
) -> str:
    uri = str(folder / f"shard-{shard}-{num_shards}-{seed}-{said}")
    places = {"dataset_uri": "", "pools_uri": "", "llm_uri": ""}
    config = AnnotateConfig(**places, output_uri=uri, shard=shard, num_shards=num_shards, seed=seed)
    with artifact_writer("annotate", config) as artifact:
        annotations = [Annotation(f"q{shard}-{n}", ("p",), ("positive",), "m", "llm", "ok") for n in range(lines)]
        write_records(artifact.path / "annotations.jsonl", annotations)
        artifact.metrics.update(num_annotated=said, num_quarantined=quarantined, model=model)
    return uri


def test_all_shards_of_a_run_are_counted(tmp_path: Path) -> None:
    uris = [write_shard(tmp_path, shard=shard) for shard in (1, 0)]
    assert check_shards(uris, max_quarantine_share=0.2) == 8


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shards \[1\] of 2 are missing"):
        check_shards([write_shard(tmp_path, shard=0)], max_quarantine_share=0.2)


def test_shards_of_different_settings_are_refused(tmp_path: Path) -> None:
    uris = [write_shard(tmp_path, shard=0), write_shard(tmp_path, shard=1, seed=7)]
    with pytest.raises(ValueError, match=r"differs from .* in seed; shards of one run are wanted"):
        check_shards(uris, max_quarantine_share=0.2)


def test_shards_of_two_precisions_are_refused_where_both_were_called_auto(tmp_path: Path) -> None:
    uris = [write_shard(tmp_path, shard=0), write_shard(tmp_path, shard=1, model="llm;precision bf16")]
    with pytest.raises(ValueError, match=r"labelled by llm;precision bf16, .* by llm; .* one precision are wanted"):
        check_shards(uris, max_quarantine_share=0.2)


def test_lost_lines_are_noticed(tmp_path: Path) -> None:
    uris = [write_shard(tmp_path, shard=0), write_shard(tmp_path, shard=1, said=5)]
    with pytest.raises(ValueError, match="4 annotations, its manifest says 5"):
        check_shards(uris, max_quarantine_share=0.2)


@pytest.mark.parametrize(("share", "is_refused"), [(0.2, False), (0.19, True)])
def test_too_many_in_quarantine_are_refused(tmp_path: Path, share: float, is_refused: bool) -> None:
    uris = [write_shard(tmp_path, shard=shard) for shard in (0, 1)]
    if not is_refused:
        assert check_shards(uris, max_quarantine_share=share) == 8
        return
    with pytest.raises(
        ValueError, match=r"2 of 10 queries \(20\.0%\) are in quarantine, more than 19\.0%.*max-quarantine-share"
    ):
        check_shards(uris, max_quarantine_share=share)
