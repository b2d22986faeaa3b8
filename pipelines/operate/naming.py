"""The name of a run: that of its flow, and a digest of what decides its result, so that the same is run once.

What decides: the content of the corpus, the settings that tasks have in their identities, the images, and where the
artifacts go. A store's own checksums stand for the content of objects, so a corpus in a bucket is listed and not read.
"""

from __future__ import annotations

import orjson

from components.shared.durable import storage
from components.shared.durable.stores import locate, missing
from components.shared.hashing import text_digest
from components.shared.roles import Role, may_be_absent, role_of
from pipelines import flow
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.images import image
from pipelines.flow import Settings

# Kubernetes' labels hold 63 characters, and a retry or a run that is asked for again adds a word of its own.
_FLOW_CHARACTERS, _DIGEST_CHARACTERS = 40, 10
_DECIDES = (Role.SETTING, Role.INPUT)


def run_name(settings: Settings, deployment: Deployment, *, corpus_version: str = "") -> str:
    """`<flow>-<digest>`: the same whenever the same flow is asked for on the same corpus.

    With `corpus_version` that text stands for the corpus, and nothing is asked of a store.

    Raises:
        FileNotFoundError: Where there is no corpus.
        ValueError: Where the bucket does not exist or the store refuses, with the remedy.
    """
    facts = {
        "corpus": {} if corpus_version else corpus_digests(settings),
        "corpus version": corpus_version,
        "settings": _deciding(settings),
        "images": {task.name: image(task.component) for task in flow.taking_part(settings)},
        "places": [deployment.artifact_root.rstrip("/"), deployment.state_uri.rstrip("/")],
    }
    digest = text_digest(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS, default=str).decode())
    return f"{flow_part(deployment.name)}-{digest[:_DIGEST_CHARACTERS]}"


def flow_part(name: str) -> str:
    """What a run's name has of its flow's."""
    return name[:_FLOW_CHARACTERS].rstrip("-")


def corpus_digests(settings: Settings) -> dict[str, str]:
    """`section.setting` -> digest of what lies there, of every input whose content may change under its address.

    A path of a claim, which only pods have, counts with its address alone: --corpus-version says what lies there.

    Raises:
        FileNotFoundError: Where nothing lies in the bucket.
        ValueError: Where the bucket does not exist or the store refuses, with the remedy.
    """
    digests = {}
    for task in flow.taking_part(settings):
        for name in task.watched:
            if may_be_absent(task.config.__dataclass_fields__[name]):
                # The pointer of a store: which release is served is found out by the run, and no name of what is asked.
                continue
            section = flow.owners(task)[name]
            digests[f"{section}.{name}"] = storage.content_digest(str(settings[section][name]))
    return digests


def refuse_missing_bucket(uri: str) -> None:
    """Looks whether the bucket of a folder that tasks will write to is there.

    Raises:
        ValueError: Where it is not, or the store refuses, with the remedy.
    """
    if uri and storage.is_remote(uri) and not storage.exists(uri):
        problem = missing(locate(uri))
        # A folder that is not there yet is no problem: the first run makes it.
        if not isinstance(problem, FileNotFoundError):
            raise problem


def _deciding(settings: Settings) -> dict[str, object]:
    values: dict[str, object] = {}
    for task in flow.taking_part(settings):
        declared = task.config.__dataclass_fields__
        for name, section in flow.owners(task).items():
            if role_of(declared[name]) in _DECIDES:
                values[f"{section}.{name}"] = settings[section][name]
    return values
