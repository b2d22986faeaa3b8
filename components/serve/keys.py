"""API keys: a file with a name and a key a line, read again when it changes.

Keys are kept as sha256 and all of them are compared, each in constant time, so that the time of an answer says nothing
about how much of a key was right. Two keys of one name may be valid at a time: that is how a key is rotated without a
gap.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path

from components.shared import log

_MIN_KEY_CHARACTERS = 16
_LOOK_SECONDS = 1.0


class KeyRing:
    """The keys that a file holds now."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            ValueError: Naming the line that is wrong, never a key.
        """
        self._path = path
        self._stamp = _stamp(path)
        self._keys = _read(path)
        self._next_look = time.monotonic() + _LOOK_SECONDS

    @classmethod
    def open(cls, path: str) -> KeyRing:
        """The keys of a file.

        Raises:
            ValueError: Where it cannot be read or a line is wrong.
        """
        try:
            return cls(Path(path))
        except OSError as error:
            raise ValueError(f"{path}: API keys cannot be read ({error.strerror}); mend --api-keys-path") from error

    def name_of(self, key: str) -> str:
        """Whose key it is; empty where it is nobody's."""
        self._look()
        given = hashlib.sha256(key.encode()).digest()
        owner = ""
        for digest, name in self._keys:
            if hmac.compare_digest(digest, given):
                owner = name
        return owner

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._keys = _read(self._path)
        except (OSError, ValueError) as error:
            log.error("API keys not read again; those before stay valid", problem=str(error))
            return
        log.event("API keys read again", keys=len(self._keys))


def _stamp(path: Path) -> tuple[int, int, int]:
    # A mounted Secret is a link that is turned to another file: inode and time, not time alone.
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> list[tuple[bytes, str]]:
    keys = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) != 2 or len(words[1]) < _MIN_KEY_CHARACTERS:
            raise ValueError(
                f"{path}:{number}: not a name and a key of at least {_MIN_KEY_CHARACTERS} characters; mend the line"
            )
        keys.append((hashlib.sha256(words[1].encode()).digest(), words[0]))
    if not keys:
        raise ValueError(f"{path}: no API key; write a name and a key a line")
    return keys
