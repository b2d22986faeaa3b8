"""How a job ends: exit codes, and the reason where Kubernetes shows it without the logs.

Exit codes: 0 done, 2 usage, 65 bad data, 75 transient (retry), 143 ended by SIGTERM. What is written to the pod's
termination message stands in `kubectl describe pod`, and in the message of the failed task in Argo and Kubeflow.
"""

from __future__ import annotations

import os
from pathlib import Path

EXIT_OK, EXIT_USAGE, EXIT_BAD_DATA, EXIT_TRANSIENT, EXIT_TERMINATED = 0, 2, 65, 75, 143

# Where another file is asked for: a pod whose terminationMessagePath is set.
TERMINATION_VARIABLE = "RETRIEVER_TERMINATION_LOG"
_TERMINATION_LOG = "/dev/termination-log"
# Kubernetes keeps no more.
_MOST_BYTES = 4096


class TransientError(OSError):
    """Something outside failed that may work later: an endpoint, a disk. Work done so far is kept."""


def tell_platform(reason: str) -> None:
    """Writes why the job ends into the pod's termination message, cut to 4096 bytes; nothing where there is no pod.

    It never fails: a job must not end otherwise because its reason could not be told.
    """
    path = Path(os.environ.get(TERMINATION_VARIABLE, _TERMINATION_LOG))
    # Whole characters only.
    content = reason.encode("utf-8", "replace")[:_MOST_BYTES].decode("utf-8", "ignore").encode()
    try:
        # Never made: outside a pod nobody would read it. The kubelet makes it before the container starts.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        os.write(descriptor, content)
    except OSError:
        return
    finally:
        os.close(descriptor)
