"""Answers: JSON by orjson, and errors in the shape that the clients of each protocol read."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response


class JSONResponse(Response):
    """JSON by orjson, which writes numpy arrays without a detour through lists."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Bytes of the body."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def error_response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """{"error": {"message", "type", "code"}} as of OpenAI; {"error": message} below /v2, as the Open Inference Protocol says."""
    if path.startswith("/v2"):
        return JSONResponse({"error": message}, status, headers)
    kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status, headers)


_KINDS = {401: "authentication_error", 429: "rate_limit_error"}
