"""Google's storage API from an emulator, with the one thing that it lacks: a write under the condition of a generation.

`python -m tests.conditional_gcs start ...` takes the emulator's own flags. Source of what is answered: the JSON API's
ifGenerationMatch (0: there must be no such object) and its status 412.
"""

import threading
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

_lock = threading.Lock()
_insert = objects.insert


def _generation(storage: Any, bucket: str, name: str) -> str:
    try:
        return str(storage.get_file_obj(bucket, name)["generation"])
    except NotFound:
        return "0"


def _insert_where_it_matches(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
    wanted = request.query.get("ifGenerationMatch")
    with _lock:
        if wanted:
            meta = request.data.get("meta", {}) if isinstance(request.data, dict) else {}
            name = request.query["name"][0] if "name" in request.query else meta["name"]
            if _generation(storage, request.params["bucket_name"], name) != wanted[0]:
                response.status = HTTPStatus.PRECONDITION_FAILED
                message = "At least one of the pre-conditions you specified did not hold."
                response.json({"error": {"code": 412, "message": message}})
                return
        _insert(request, response, storage, *args, **kwargs)


objects.insert = _insert_where_it_matches

if __name__ == "__main__":
    # Its table of handlers is made when it is imported.
    from gcp_storage_emulator.__main__ import main

    main()
