"""Detects damage in a Delta log, whose entries are JSON without checksums.

One changed letter can restore a removed file, lose an added one or move rows to another partition,
and the entry is still valid JSON. Therefore redundant fields of the log are cross-checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ProvenanceError

_ACTIONS = {"commitInfo", "protocol", "metaData", "add", "remove", "txn", "domainMetadata"}
# Number of digits of the version at the start of every file name in a log.
_VERSION_DIGITS = 20


def check_log(uri: str, version: int) -> None:
    """Check that the entries of a local log are consistent.

    Every line must be an action of a known kind. A removed file must have been added before. A file
    must be in the folder of its partition. Logs in object storage are not checked, because object
    storage has its own checksums.

    Args:
        uri: URL or local path of the table.
        version: newest version to check.

    Raises:
        ProvenanceError: an entry is damaged; the message names it.
        FileNotFoundError: upkeep removed an entry during the check.
    """
    if "://" in uri:
        return
    log = Path(uri) / "_delta_log"
    first, files = _checkpoint(log, version)
    for number in range(first, version + 1):
        entry = log / f"{number:0{_VERSION_DIGITS}}.json"
        for kind, action in _actions(entry):
            path = str(action.get("path"))
            if kind == "add":
                _check_partition(entry, path, action.get("partitionValues") or {})
                files.add(path)
            elif kind == "remove" and path not in files:
                raise ProvenanceError(
                    f"The log entry removes {path}, which no entry has added", where=str(entry)
                )
            elif kind == "remove":
                files.remove(path)


def _checkpoint(log: Path, version: int) -> tuple[int, set[str]]:
    """Return the version after the newest checkpoint, and the table's files at the checkpoint."""
    parts: dict[int, list[Path]] = {}
    for path in log.glob("*.checkpoint*.parquet"):
        parts.setdefault(int(path.name[:_VERSION_DIGITS]), []).append(path)
    newest = max((number for number in parts if number <= version), default=None)
    if newest is None:
        return 0, set()
    return newest + 1, {path for part in parts[newest] for path in _added(part)}


def _added(part: Path) -> list[str]:
    """Return the paths of the files that a part of a checkpoint lists."""
    try:
        with pq.ParquetFile(part) as file:
            actions = file.read(["add.path", "add.partitionValues"])["add"].to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise ProvenanceError(f"The checkpoint cannot be read: {error}", where=str(part)) from error
    added = [action for action in actions if action]
    for action in added:
        _check_partition(part, action["path"], dict(action["partitionValues"]))
    return [action["path"] for action in added]


def _actions(entry: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    lines = entry.read_bytes().split(b"\n")
    if lines == [b""]:
        # A power failure leaves an empty file, which deltalake reads as an entry without actions.
        raise ProvenanceError(
            "The log entry is empty: remove the file, then run the step again", where=str(entry)
        )
    for line in filter(None, lines):
        try:
            ((kind, action),) = json.loads(line).items()
        except (ValueError, AttributeError) as error:
            raise ProvenanceError(
                f"A line of the log entry is not an action: {error}", where=str(entry)
            ) from error
        if kind not in _ACTIONS:
            raise ProvenanceError(f"The log entry has the unknown action {kind}", where=str(entry))
        yield kind, action


def _check_partition(entry: Path, path: str, partition: Mapping[str, str]) -> None:
    # The name of a partition folder is URL-encoded, and the path of the file is encoded again.
    folders = [folder.partition("=") for folder in unquote(path).split("/")[:-1]]
    named = {name: unquote(value) for name, _, value in folders}
    if named != partition:
        raise ProvenanceError(
            f"The log entry puts {path} into the partition {dict(partition)}", where=str(entry)
        )
