"""A split by hash: an id is in the same split on every machine and in every run."""

from __future__ import annotations

import hashlib


def hash_split(key: str) -> str:
    """60 % train, 15 % dev, 25 % test."""
    bucket = int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16) % 100
    return "train" if bucket < 60 else "dev" if bucket < 75 else "test"
