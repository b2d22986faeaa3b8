"""One line per event on stderr: JSON for machines, plain words and progress bars on a terminal.

`RETRIEVER_LOG` set to `json` or `human` overrides the choice; without it a terminal reads words and a file gets JSON.
Bars are drawn on a terminal only, whatever the choice: a file would hold them as one endless line.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partialmethod
from typing import Any, TypeVar

import orjson
from tqdm import tqdm

Item = TypeVar("Item")

# A progress line this often where no terminal shows a bar: rare enough for a log store, often enough to see life.
PROGRESS_SECONDS = 10.0
# A listener is told this often at most: a scrape sees no more, and a bar may count bytes.
_TOLD_SECONDS = 1.0
# What, its unit, units done, units planned.
Listener = Callable[[str, str, int, int | None], None]
_listeners: list[Listener] = []


def event(message: str, *, level: str = "info", **fields: object) -> None:
    """Writes one line; `fields` are the event's facts, with their unit in the name."""
    if _human():
        mark = {"info": " ", "warning": "!", "error": "x"}[level]
        facts = "  ".join(f"{name}={_short(value)}" for name, value in fields.items())
        tqdm.write(f"{mark} {message}  {facts}".rstrip(), file=sys.stderr)
        return
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": level, "event": message, **fields}
    sys.stderr.buffer.write(orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    sys.stderr.flush()


def warning(message: str, **fields: object) -> None:
    """An event that somebody should look at although the job goes on."""
    event(message, level="warning", **fields)


def error(message: str, **fields: object) -> None:
    """The event that ends a job."""
    event(message, level="error", **fields)


def silence_libraries() -> None:
    """Switches off libraries' progress bars where no terminal shows them, also in processes started from here.

    Call it before a job begins. It reaches every library that draws with tqdm (the conversion of GGUF files among
    them), and huggingface_hub and transformers whether they are imported already or later.
    """
    if _draws_bars():
        return
    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    # tqdm and huggingface_hub read the environment when they are imported, which they may be already.
    setattr(tqdm, "__init__", partialmethod(tqdm.__init__, disable=True))  # noqa: B010 - mypy forbids the assignment
    if (hub := sys.modules.get("huggingface_hub.utils")) is not None:
        hub.disable_progress_bars()
    if (transformers := sys.modules.get("transformers.utils.logging")) is not None:
        transformers.disable_progress_bar()


def listen(listener: Listener | None) -> None:
    """Tells every progress of this process to a listener, instead of the one before; None ends it."""
    _listeners[:] = [] if listener is None else [listener]


class Progress:
    """A bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """`done` units were finished by an earlier attempt and count as done but not for the rate."""
        self._label, self._total, self._unit = label, total, unit
        self._first, self._done = done, done
        self._start = self._last_line = time.monotonic()
        self._bar = (
            tqdm(desc=label, total=total, initial=done, unit=unit, leave=False, file=sys.stderr)
            if _draws_bars()
            else None
        )
        self._last_told = 0.0
        self._tell(self._start)

    def add(self, num_units: int = 1, **facts: Any) -> None:  # noqa: ANN401
        """Counts finished units; `facts` (a loss, a rate) stand behind the bar."""
        self._done += num_units
        now = time.monotonic()
        if now - self._last_told >= _TOLD_SECONDS:
            self._tell(now)
        if self._bar is not None:
            self._bar.set_postfix({name: _short(value) for name, value in facts.items()}, refresh=False)
            self._bar.update(num_units)
        elif now - self._last_line >= PROGRESS_SECONDS:
            self._last_line = now
            event("progress", task=self._label, done=self._done, total=self._total, **{**self._pace(), **facts})

    def close(self) -> None:
        """Ends the bar; the numbers stay in the log."""
        if self._bar is not None:
            self._bar.close()
        self._tell(time.monotonic())
        pace = self._pace()
        event(self._label, done=self._done, total=self._total, **{k: v for k, v in pace.items() if k != "seconds_left"})

    def _tell(self, now: float) -> None:
        self._last_told = now
        for listener in _listeners:
            listener(self._label, self._unit, self._done, self._total)

    def _pace(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._start
        rate = (self._done - self._first) / max(seconds, 1e-9)
        pace = {"seconds": round(seconds, 1), f"{self._unit}_per_second": round(rate, 2)}
        if self._total is not None and rate > 0:
            pace["seconds_left"] = round((self._total - self._done) / rate, 1)
        return pace

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def progress(items: Iterable[Item], label: str, *, total: int | None, unit: str) -> Iterator[Item]:
    """Yields the items and shows how far along they are."""
    with Progress(label, total=total, unit=unit) as bar:
        for item in items:
            yield item
            bar.add()


def _human() -> bool:
    choice = os.environ.get("RETRIEVER_LOG", "")
    return choice == "human" or (choice != "json" and sys.stderr.isatty())


def _draws_bars() -> bool:
    return _human() and sys.stderr.isatty()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
