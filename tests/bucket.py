"""A bucket of a storage server on this machine, spoken to through Google's own client."""

import socket
import warnings
from collections.abc import Iterator

import pytest

from components.shared import storage


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket; processes started by the test reach it too."""
    # Imported here: the environment of the vLLM tests has neither of them. Google's packages warn of what they do not
    # find.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import google.cloud.storage
        from gcp_storage_emulator.server import create_server

    assert google.cloud.storage
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        storage._client.cache_clear()
        server.start()
        try:
            yield "gs://tests"
        finally:
            storage._client.cache_clear()
            server.stop()
