"""manifest.json beside every artifact: what made it, from what, with which digests, at what cost.

An artifact folder is built under `<output>.partial` and renamed when its manifest is written, so a folder with a
manifest is finished. A killed job finds its partial folder again; a partial folder of another identity (other inputs,
settings or code) is thrown away first, so that two versions never mix. The identity holds no paths: moving a work
folder changes nothing. Files under `logs/` say how the work went (times, rates): they are checked like all others but
are not part of the digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, runtime_checkable

import orjson

from components.shared import identity, log
from components.shared.durable import storage
from components.shared.hashing import file_digest, lines_digest, text_digest
from components.shared.roles import Role, may_be_absent, names

SCHEMA_VERSION = 2
# Folder of an artifact for files that tell of the making: no reader's result depends on them, so no reader runs again
# for them.
LOGS = "logs/"
# Of an artifact that stands for another: holds its address, and readers read that.
REFERENCE_NAME = "reference.json"
# What every manifest of ours has held since the first version, and no other program's manifest.json does.
_OWN_FIELDS = {"schema_version", "component", "identity"}
# In a partial folder only: whose it is, and working files.
_STAMP_NAME, _SCRATCH_NAME = "identity", ".scratch"
# A killed run may leave a job that is still ending; one that works for longer is really at work.
_LOCK_SECONDS = 10.0
# What can change a number in an artifact; the rest of an environment is in the image's lock file.
_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "vllm",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "onnx",
    "faiss-cpu",
    "faiss-gpu",
    "bm25s",
    "numpy",
    "ir-measures",
    "rouge-score",
    "sacrebleu",
)


@runtime_checkable
class Config(Protocol):
    """A component's config: a dataclass whose fields declare their roles (roles.py), with one `output_uri`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def output_uri(self) -> str:
        """Where the artifact goes."""
        ...


class BusyError(OSError):
    """Another process is writing the same artifact; trying again later is right."""


@dataclass(frozen=True)
class Manifest:
    """What an artifact says of itself; `files` maps a name to its size in bytes and its sha256.

    `config` is the whole config; `settings` are those of its values that the identity depends on.
    """

    schema_version: int
    component: str
    identity: str
    config: dict[str, Any]
    settings: dict[str, Any]
    inputs: dict[str, str]
    versions: dict[str, str]
    seconds: float
    created: str
    metrics: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @property
    def digest(self) -> str:
        """Of the content only: equal files give equal digests whoever made them, and however long it took."""
        lines = [f"{name} {entry['sha256']}" for name, entry in sorted(self.files.items()) if not name.startswith(LOGS)]
        return lines_digest(lines)


@dataclass
class ArtifactWriter:
    """A partial artifact: files go into `path`, facts into `metrics`, working files that must not ship into `scratch`.

    `identity` names this very work: state kept elsewhere under it can only be found by a resumed attempt.
    """

    path: Path
    scratch: Path
    identity: str
    metrics: dict[str, Any] = field(default_factory=dict)


def read_manifest(uri: str) -> Manifest:
    """The manifest of a finished artifact.

    Raises:
        ValueError: Where there is none, or it is not of this schema; names the artifact and the remedy.
    """
    values = _read_values(uri)
    if values.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{_manifest_path(uri)}: schema version {values.get('schema_version')}, this version reads "
            f"{SCHEMA_VERSION}; "
            "make the artifact again"
        )
    known = {declared.name for declared in dataclasses.fields(Manifest)}
    if set(values) != known:
        wrong = sorted(set(values) ^ known)
        raise ValueError(
            f"{_manifest_path(uri)}: fields {wrong} are missing or unknown; delete {uri} and make it again"
        )
    return Manifest(**values)


def is_artifact(uri: str) -> bool:
    """Whether an artifact of this project lies here, finished or damaged; other programs have a manifest.json too.

    A file that is no JSON is none of an artifact: who opens it as one hears so.
    """
    if not storage.exists(_manifest_path(uri)):
        return False
    try:
        values = orjson.loads(storage.read_bytes(_manifest_path(uri)))
    except (orjson.JSONDecodeError, IsADirectoryError):
        return False
    return isinstance(values, dict) and values.keys() >= _OWN_FIELDS


def _manifest_path(uri: str) -> str:
    return f"{uri.rstrip('/')}/{storage.MANIFEST_NAME}"


def _read_values(uri: str) -> dict[str, Any]:
    path = _manifest_path(uri)
    try:
        values = orjson.loads(storage.read_bytes(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{uri}: no finished artifact here ({storage.MANIFEST_NAME} is missing); run the component that writes it"
        ) from error
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete {uri} and make it again") from error
    return values if isinstance(values, dict) else {}


def open_artifact(uri: str) -> Path:
    """A local folder with the artifact, every file checked against the manifest.

    Raises:
        ValueError: Naming the file that is missing, cut or changed.
    """
    manifest = read_manifest(uri)
    path = storage.fetch(uri)
    for name, entry in manifest.files.items():
        _check_file(path / name, entry, uri)
    return path


def followed(uri: str) -> str:
    """The address that an artifact stands for whose content is a reference (REFERENCE_NAME); any other one itself."""
    if not is_artifact(uri) or REFERENCE_NAME not in read_manifest(uri).files:
        return uri
    return str(orjson.loads(storage.read_bytes(f"{uri.rstrip('/')}/{REFERENCE_NAME}"))["uri"])


def model_source(uri: str) -> str:
    """What a model is loaded from: an artifact's checked files, a bucket's fetched folder, else the address itself.

    Raises:
        ValueError: Naming the file of an artifact that is missing, cut or changed.
    """
    uri = followed(uri)
    if is_artifact(uri):
        return str(open_artifact(uri))
    return str(storage.fetch(uri)) if storage.is_remote(uri) else uri


def _check_file(path: Path, entry: Mapping[str, Any], uri: str) -> None:
    remedy = f"delete {uri} to make it again"
    if not path.is_file():
        raise ValueError(f"{path}: listed in the manifest but missing; {remedy}")
    if (num_bytes := path.stat().st_size) != entry["bytes"]:
        raise ValueError(
            f"{path}: {num_bytes} bytes where the manifest says {entry['bytes']} (cut or edited); {remedy}"
        )
    if file_digest(path) != entry["sha256"]:
        raise ValueError(f"{path}: content differs from the manifest's sha256 (edited or damaged); {remedy}")


def is_finished(uri: str, wanted_identity: str) -> bool:
    """True where a finished and intact artifact of this identity lies; one of another schema is none.

    Raises:
        ValueError: Where one of this identity lies but a file of it was cut or edited.
    """
    if not storage.exists(_manifest_path(uri)):
        return False
    if _read_values(uri).get("schema_version") not in (None, SCHEMA_VERSION):
        return False
    manifest = read_manifest(uri)
    if manifest.identity != wanted_identity:
        return False
    if storage.is_remote(uri):
        _check_listing(uri, manifest)
    else:
        open_artifact(uri)
    return True


def _check_listing(uri: str, manifest: Manifest) -> None:
    """Sizes only: a store keeps its objects whole, and no artifact should be downloaded just to be left alone."""
    sizes = storage.file_sizes(uri)
    for name, entry in manifest.files.items():
        if sizes.get(name) != entry["bytes"]:
            raise ValueError(
                f"{uri}/{name}: {sizes.get(name, 'no')} bytes where the manifest says {entry['bytes']} (cut or "
                f"replaced); delete {uri} to make it again"
            )


def input_digests(config: Config) -> dict[str, str]:
    """Content digest of every input of a config by its name without `_uri`; of the manifest where it is an artifact.

    An empty URI is an input that is not given. A field may hold several URIs separated by commas (the shards of a
    fan-in).
    """
    uris = {name: getattr(config, name) for name in names(config, Role.INPUT)}
    declared = config.__dataclass_fields__
    return {
        name.removesuffix("_uri"): storage.digest_or_absent(value)
        if may_be_absent(declared[name])
        else ",".join(_input_digest(uri) for uri in value.split(","))
        for name, value in uris.items()
        if value
    }


def _input_digest(uri: str) -> str:
    uri = followed(uri)
    if is_artifact(uri):
        return read_manifest(uri).digest
    return storage.content_digest(uri)


def compute_identity(component: str, config: Config, inputs: Mapping[str, str]) -> str:
    """Digest of all that decides what an artifact of this schema will contain."""
    return identity.compute_identity(component, config, inputs, schema_version=SCHEMA_VERSION)


@contextmanager
def artifact_writer(component: str, config: Config) -> Iterator[ArtifactWriter]:
    """Builds the artifact of a config: the block writes files, a clean exit writes the manifest and publishes.

    After an exception or a kill the partial folder stays, and the next attempt of the same identity finds it.

    Raises:
        BusyError: Where another process writes the same artifact.
    """
    start = time.monotonic()
    inputs = input_digests(config)
    computed = compute_identity(component, config, inputs)
    partial = _partial_folder(config.output_uri)
    with _locked(partial.with_name(f"{partial.name}.lock")):
        _claim(partial, computed)
        writer = ArtifactWriter(path=partial, scratch=partial / _SCRATCH_NAME, identity=computed)
        writer.scratch.mkdir(exist_ok=True)
        yield writer
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            component=component,
            identity=computed,
            config=dataclasses.asdict(config),
            settings=identity.settings(config),
            inputs=inputs,
            versions=_versions(),
            seconds=round(time.monotonic() - start, 3),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            metrics=writer.metrics,
            files={name: _file_entry(partial / name) for name in storage.list_files(str(partial)) if _ships(name)},
        )
        content = orjson.dumps(dataclasses.asdict(manifest), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        storage.write_bytes(str(partial / storage.MANIFEST_NAME), content)
        # The stamp goes last: without it the next attempt throws the folder away, and hashing large files takes
        # minutes.
        shutil.rmtree(writer.scratch)
        (partial / _STAMP_NAME).unlink()
        storage.publish(partial, config.output_uri)
    log.event(f"{component} finished", artifact=config.output_uri, seconds=manifest.seconds, **_scalars(writer.metrics))


def _ships(name: str) -> bool:
    return name not in (storage.MANIFEST_NAME, _STAMP_NAME) and not name.startswith(f"{_SCRATCH_NAME}/")


def _partial_folder(output_uri: str) -> Path:
    if storage.is_remote(output_uri):
        name = text_digest(output_uri)[:16]
        return Path.home() / ".cache" / "retriever" / f"{name}.partial"
    path = Path(output_uri)
    return path.with_name(f"{path.name}.partial")


def _claim(partial: Path, identity: str) -> None:
    stamp = partial / _STAMP_NAME
    if partial.exists() and (not stamp.exists() or stamp.read_text() != identity):
        shutil.rmtree(partial)
    if not partial.exists():
        partial.mkdir(parents=True)
        storage.write_bytes(str(stamp), identity.encode())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _lock(path)
    try:
        yield
        path.unlink(missing_ok=True)
    finally:
        file.close()


def _lock(path: Path) -> IO[str]:
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        file = path.open("w")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have removed the file since we opened it: then ours locks nobody out.
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()
        time.sleep(0.2)
    raise BusyError(f"{path}: another process is writing this artifact; wait for it or end it")


def _file_entry(path: Path) -> dict[str, Any]:
    # safetensors makes files that only their owner may read; the next container may run as another user.
    path.chmod(path.stat().st_mode | 0o444)
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _scalars(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
