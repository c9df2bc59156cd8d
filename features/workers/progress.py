"""Reports the progress of decoding many files: a bar in a terminal, log lines elsewhere."""

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


def report_progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items unchanged, and report how many of them are done.

    Args:
        items: one per file.
        total: number of items.
        label: name of the work, for the bar or the log lines.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, unit="file", leave=False)
        return
    started = last_report = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_report >= LOG_EVERY_SECONDS:
            last_report = now
            rate = done / (now - started)
            log.info(
                "%s: %d of %d, %.1f/s, %.0f s left", label, done, total, rate, (total - done) / rate
            )
