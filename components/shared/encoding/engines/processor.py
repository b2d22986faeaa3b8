"""What the processor has that decides which engine and precision are fast on it."""

from __future__ import annotations

import functools
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Of hundreds of flags, those that decide here; the narrowest first.
DECIDING = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
# Of which a processor has one that computes in bf16 itself; all others emulate it, many times slower.
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


def computes_bf16() -> bool:
    """Whether bf16 is worth a try here."""
    return bool(BF16_FLAGS & flags())


@functools.cache
def flags() -> frozenset[str]:
    """The deciding flags that this processor has; none where the system does not say."""
    return flags_of(_CPUINFO)


def flags_of(path: Path) -> frozenset[str]:
    """The deciding flags of a file like /proc/cpuinfo.

    Of several processors those that the first one has; a core is like another.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return frozenset(DECIDING) & frozenset(named)


def described() -> str:
    """The deciding flags for a figure's side, in the order of `DECIDING`."""
    return " ".join(flag for flag in DECIDING if flag in flags()) or "none of " + " ".join(DECIDING)
