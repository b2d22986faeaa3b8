"""An artifact is finished or not there, says what it was made from, and any change to it is seen and named."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.shared import manifest
from components.shared.durable import storage
from components.shared.manifest import (
    BusyError,
    artifact_writer,
    compute_identity,
    input_digests,
    is_finished,
    open_artifact,
    read_manifest,
)
from components.shared.roles import FLOW, INPUT, OPERATION, OUTPUT, PLACE, SETTING


@dataclass(frozen=True, kw_only=True)
class _Config:
    output_uri: str = field(metadata=OUTPUT)
    dataset_uri: str = field(default="", metadata=INPUT)
    annotations_uri: str = field(default="", metadata=INPUT)
    checkpoint_uri: str = field(default="", metadata=INPUT)
    journal_uri: str = field(default="", metadata=PLACE)
    seed: int = field(default=42, metadata=SETTING)
    held_rows: int = field(default=0, metadata=OPERATION)
    shard: int = field(default=0, metadata=FLOW)


def _identity(config: _Config) -> str:
    return compute_identity("index", config, input_digests(config))


def _make(config: _Config, text: str = "12") -> Path:
    with artifact_writer("index", config) as artifact:
        (artifact.path / "vectors").mkdir(exist_ok=True)
        (artifact.path / "vectors" / "0.bin").write_text(text)
        (artifact.scratch / "half").write_text("not shipped")
        artifact.metrics["recall"] = 0.5
    return Path(config.output_uri)


@pytest.fixture
def config(tmp_path: Path) -> _Config:
    return _Config(output_uri=str(tmp_path / "work" / "index"))


def test_a_finished_artifact_says_what_it_is(config: _Config) -> None:
    folder = _make(config)
    said = read_manifest(config.output_uri)
    assert (said.component, said.schema_version, said.metrics) == ("index", 2, {"recall": 0.5})
    assert said.config == dataclasses.asdict(config)
    assert said.settings == {"seed": 42, "shard": 0}
    assert said.identity == _identity(config)
    assert said.versions["numpy"]
    assert said.files == {"vectors/0.bin": {"bytes": 2, "sha256": hashlib.sha256(b"12").hexdigest()}}
    assert open_artifact(config.output_uri) == folder
    assert is_finished(config.output_uri, _identity(config))
    assert sorted(path.name for path in folder.parent.iterdir()) == ["index"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "vectors"]


def test_logs_are_checked_but_no_part_of_what_an_artifact_is(config: _Config, tmp_path: Path) -> None:
    digests = []
    for number, seconds in enumerate(("1.5 s", "2.5 s")):
        its = dataclasses.replace(config, output_uri=str(tmp_path / f"index-{number}"))
        with artifact_writer("index", its) as artifact:
            (artifact.path / "vectors.bin").write_text("12")
            (artifact.path / "logs").mkdir()
            (artifact.path / "logs" / "steps.jsonl").write_text(seconds)
        digests.append(read_manifest(its.output_uri).digest)
    assert digests[0] == digests[1]
    (tmp_path / "index-1" / "logs" / "steps.jsonl").write_text("9.9 s")
    with pytest.raises(ValueError, match=r"steps\.jsonl: content differs"):
        open_artifact(str(tmp_path / "index-1"))


def test_another_user_can_read_what_a_library_kept_to_its_owner(config: _Config) -> None:
    with artifact_writer("train", config) as artifact:
        (artifact.path / "model.safetensors").touch(mode=0o600)
    assert (Path(config.output_uri) / "model.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.unlink(), "listed in the manifest but missing"),
        (lambda file: file.write_text("1"), "1 bytes where the manifest says 2"),
        (lambda file: file.write_text("123"), "3 bytes where the manifest says 2"),
        (lambda file: file.write_text("13"), "content differs from the manifest's sha256"),
    ],
    ids=["missing", "cut", "longer", "edited"],
)
def test_a_harmed_file_is_named_with_the_remedy(config: _Config, harm: object, said: str) -> None:
    file = _make(config) / "vectors" / "0.bin"
    assert callable(harm)
    harm(file)
    for look in (lambda: open_artifact(config.output_uri), lambda: is_finished(config.output_uri, _identity(config))):
        with pytest.raises(ValueError, match=f"{file}: .*{said}.*delete {config.output_uri}"):
            look()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no finished artifact here"),
        (b"{", "not JSON"),
        (b"[]", "schema version None"),
        (b'{"schema_version": 99}', "schema version 99, this version reads 2"),
        (b'{"schema_version": 2, "component": "index"}', "missing or unknown"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(config: _Config, content: bytes | None, said: str) -> None:
    path = _make(config) / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_manifest(config.output_uri)


def test_an_identity_follows_content_and_settings_and_ignores_places(config: _Config, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("corpus")
    (tmp_path / "b").write_text("corpus")
    (tmp_path / "c").write_text("another")

    def of(**changes: object) -> str:
        return _identity(dataclasses.replace(config, **{"dataset_uri": str(tmp_path / "a"), **changes}))

    same = of()
    assert of(dataset_uri=str(tmp_path / "b")) == same
    assert of(output_uri=str(tmp_path / "elsewhere")) == same
    assert of(journal_uri=str(tmp_path / "journal")) == same
    assert of(held_rows=8) == same
    others = [
        of(dataset_uri=str(tmp_path / "c")),
        of(seed=43),
        of(checkpoint_uri="hub/model"),
        of(dataset_uri=""),
        of(shard=1),
    ]
    assert len({same, *others}) == 6


def test_an_artifact_of_an_earlier_schema_is_made_again_and_not_called_damaged(config: _Config) -> None:
    path = _make(config) / "manifest.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "schema_version": 1}))
    assert not is_finished(config.output_uri, _identity(config))


def test_an_input_artifact_counts_by_its_content_not_by_when_it_was_made(config: _Config, tmp_path: Path) -> None:
    made = [
        dataclasses.replace(config, output_uri=str(tmp_path / name), seed=seed) for name, seed in (("a", 1), ("b", 2))
    ]
    for each in made:
        _make(each)
    readers = [dataclasses.replace(config, dataset_uri=each.output_uri) for each in made]
    assert read_manifest(made[0].output_uri).identity != read_manifest(made[1].output_uri).identity
    assert _identity(readers[0]) == _identity(readers[1])


def test_a_fan_in_counts_every_shard(config: _Config, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    two = dataclasses.replace(config, annotations_uri=f"{tmp_path / 'a'},{tmp_path / 'b'}")
    three = dataclasses.replace(config, annotations_uri=f"{tmp_path / 'a'},{tmp_path / 'b'},{tmp_path / 'c'}")
    assert input_digests(two)["annotations"].count(",") == 1
    assert _identity(two) != _identity(three)


def test_a_failed_attempt_leaves_its_work_and_no_artifact(config: _Config) -> None:
    with pytest.raises(RuntimeError, match="half way"), artifact_writer("index", config) as artifact:  # noqa: PT012 - it fails after its work
        (artifact.scratch / "half").write_text("done")
        raise RuntimeError("half way")
    assert not storage.exists(config.output_uri)
    with artifact_writer("index", config) as artifact:
        assert (artifact.scratch / "half").read_text() == "done"


def test_work_of_another_identity_is_thrown_away(config: _Config) -> None:
    with pytest.raises(RuntimeError), artifact_writer("index", config) as artifact:  # noqa: PT012 - it fails after its work
        (artifact.path / "half").write_text("done")
        raise RuntimeError("half way")
    _make(dataclasses.replace(config, seed=7))
    assert sorted(read_manifest(config.output_uri).files) == ["vectors/0.bin"]


def test_a_new_version_replaces_the_old_one_whole(config: _Config) -> None:
    _make(config)
    other = dataclasses.replace(config, seed=7)
    assert not is_finished(config.output_uri, _identity(other))
    with artifact_writer("index", other) as artifact:
        (artifact.path / "only").write_text("new")
    assert storage.list_files(config.output_uri) == ["manifest.json", "only"]


_WRITER = """
import sys, time
from pathlib import Path
from dataclasses import dataclass, field
from components.shared.manifest import artifact_writer

from dataclasses import field
from components.shared.roles import OUTPUT

@dataclass(frozen=True, kw_only=True)
class Config:
    output_uri: str = field(metadata=OUTPUT)

with artifact_writer("index", Config(output_uri=sys.argv[1])) as artifact:
    for number in range(20):
        (artifact.path / f"{number}.bin").write_bytes(b"0" * 1_000_000)
    (artifact.scratch / "ready").write_text("")
    time.sleep(float(sys.argv[2]))
"""


def _start(config: _Config, seconds: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _WRITER, config.output_uri, str(seconds)], stderr=subprocess.DEVNULL)


def _await_ready(config: _Config) -> None:
    ready = Path(f"{config.output_uri}.partial") / ".scratch" / "ready"
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_two_writers_of_one_artifact_do_not_mix(config: _Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_LOCK_SECONDS", 0.3)
    writer = _start(config, 60)
    try:
        _await_ready(config)
        with pytest.raises(BusyError, match="another process is writing this artifact"):
            _make(config)
    finally:
        writer.kill()
        writer.wait()
    # The lock of a killed writer stands in nobody's way.
    _make(config)
    assert is_finished(config.output_uri, _identity(config))


def test_killed_while_finishing_it_is_whole_or_not_there(config: _Config) -> None:
    for delay in (0.0, 0.01, 0.02, 0.04, 0.08):
        writer = _start(config, 0)
        _await_ready(config)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        if storage.exists(f"{config.output_uri}/manifest.json"):
            assert len(list(open_artifact(config.output_uri).glob("*.bin"))) == 20
            break
    writer = _start(config, 0)
    assert writer.wait(30) == 0
    assert len(json.loads((Path(config.output_uri) / "manifest.json").read_text())["files"]) == 20
