"""The trace context of a request: taken from the caller, given back with the answer, named in the log.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/, which OpenTelemetry propagates.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

# Version ff is invalid; ids of zeros are too; later versions may append fields.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """One request within a trace; `parent_id` is empty where the trace begins here."""

    trace_id: str
    span_id: str
    parent_id: str
    flags: str

    @property
    def traceparent(self) -> bytes:
        """The header that names this request as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()


def trace_of(traceparent: bytes | None) -> Trace:
    """Continues the caller's trace; without one, or with a malformed one, a trace begins."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if match is None:
        ids = os.urandom(24).hex()
        return Trace(ids[:32], ids[32:], "", "00")
    trace_id, parent_id, flags = (group.decode() for group in match.groups())
    return Trace(trace_id, os.urandom(8).hex(), parent_id, flags)
