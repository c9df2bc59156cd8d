"""Records the results of the fault tests and writes docs/reliability.md from them.

Each test records one row in tests/faults/results.json. The row of a test that was not run keeps
its old numbers and date.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
INTRODUCTION = """\
# Reliability

<!-- Written by `make faults` from tests/faults/results.json; edit the tests, not this page. -->

Each row of the table is a test in `tests/faults/` that injects a real fault. The numbers are those
of the row's last run, on one machine with two cores.

Two faults are not protected against:

- **A flipped bit in a table's log on object storage.** Object storage has checksums of its own. On
  a local lake, each log entry is compared with the entries before it and with the folder names.
- **A lake in a folder on a disk that is not mounted.** If the lake's folder is empty, or the folder
  above it is missing, a step assumes that a disk is missing and creates no lake. If only the lake's
  own folder is missing, a step cannot tell a new lake from a lost one, and creates a lake. To
  avoid this, make the lake root the mount point itself.

[scale.md](scale.md) shows what a night costs as the catalogue grows. [security.md](security.md)
has the threat model.

| fault | injected | times | result | last run |
|---|---|---|---|---|
"""

rows: dict[str, dict[str, str]] = {}


def record(fault: str, injected: str, times: int, result: str) -> None:
    """Record what a test injected, how often, and with what result."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    rows[fault] = {"injected": injected, "times": f"{times:,}", "result": result, "run": today}


def format_counts(counts: Counter[str]) -> str:
    """Format counts per step for a cell of the table."""
    return ", ".join(f"{step} {count}" for step, count in sorted(counts.items()) if count)


def page(results: dict[str, dict[str, str]]) -> str:
    """Return the text of docs/reliability.md for the results of results.json."""
    lines = [
        f"| {fault} | {row['injected']} | {row['times']} | {row['result']} | {row['run']} |\n"
        for fault, row in sorted(results.items())
    ]
    return INTRODUCTION + "".join(lines)


def write() -> None:
    """Add the recorded rows to results.json, and write the page."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results = known | rows
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")
