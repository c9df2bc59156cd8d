"""docs/reliability.md: what the last `make faults` injected, how often, and what was lost.

Each test of the suite records its row in tests/faults/results.json; a row that is not run again
stays, with the day of its run.
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

What can go wrong was made to go wrong: every row is a test in `tests/faults/` that injects the
fault for real. The numbers are those of the row's last run, on one machine with two cores.

What is not protected against:

- **A bit that turns over in a table's log in object storage**, which has checksums of its own. On
  a local lake an entry is compared with the entries before it and with the names of the folders.
- **A lake in a folder below a disk that is not mounted.** A step takes an empty folder, or a
  missing folder above the lake's, for a disk that is missing, and begins no lake there; whether a
  missing folder is a new lake or an old one cannot be seen. Let the lake be the mount point itself.

What a night costs as the catalogue grows stands in [scale.md](scale.md), the threat model in
[security.md](security.md).

| fault | injected | times | what was lost | run |
|---|---|---|---|---|
"""

rows: dict[str, dict[str, str]] = {}


def record(fault: str, injected: str, times: int, lost: str) -> None:
    """Take down what was injected, how often and what was lost."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    rows[fault] = {"injected": injected, "times": f"{times:,}", "lost": lost, "run": today}


def listed(counts: Counter[str]) -> str:
    """Counts by step, as a cell of the table."""
    return ", ".join(f"{step} {count}" for step, count in sorted(counts.items()) if count)


def page(results: dict[str, dict[str, str]]) -> str:
    """The page that a results file makes."""
    lines = [
        f"| {fault} | {row['injected']} | {row['times']} | {row['lost']} | {row['run']} |\n"
        for fault, row in sorted(results.items())
    ]
    return INTRODUCTION + "".join(lines)


def write() -> None:
    """Write results and page."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = known | rows
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")
