"""Progress of long work: a bar in a terminal, log lines with rate and ETA elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

T = TypeVar("T")
LOG_EVERY_SECONDS = 15.0


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The items, unchanged, while saying how far they are."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, unit="file", leave=False)
        return
    started = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= LOG_EVERY_SECONDS:
            said = now
            rate = done / (now - started)
            log.info(
                "%s: %d of %d, %.1f/s, %.0f s left", label, done, total, rate, (total - done) / rate
            )
