"""What shows damage in a table's log: its entries are JSON without checksums.

A changed letter may bring a removed file back, lose an added one or move rows to another
partition, and is good JSON still. So what an entry says twice is compared.
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
_NUMBER = 20
"""Digits of the version that every file name of a log begins with."""


def check_log(uri: str, version: int) -> None:
    """Refuse a local log whose entries do not fit each other.

    Every line is an action of a known kind, a file that is removed was there before, and lies in
    the folder that its partition names. Object storage has checksums of its own.

    Args:
        uri: of the table.
        version: newest one to be read.

    Raises:
        ProvenanceError: naming the entry.
        FileNotFoundError: the log was cleaned up meanwhile.
    """
    if "://" in uri:
        return
    log = Path(uri) / "_delta_log"
    first, files = _checkpoint(log, version)
    for number in range(first, version + 1):
        entry = log / f"{number:0{_NUMBER}}.json"
        for kind, action in _actions(entry):
            path = str(action.get("path"))
            if kind == "add":
                files.add(_in_its_folder(entry, path, action.get("partitionValues") or {}))
            elif kind == "remove" and path not in files:
                raise ProvenanceError(f"removes {path}, which was not there", where=str(entry))
            elif kind == "remove":
                files.remove(path)


def _checkpoint(log: Path, version: int) -> tuple[int, set[str]]:
    """The first entry after the newest checkpoint, and the files that the table held there."""
    parts: dict[int, list[Path]] = {}
    for path in log.glob("*.checkpoint*.parquet"):
        parts.setdefault(int(path.name[:_NUMBER]), []).append(path)
    newest = max((number for number in parts if number <= version), default=None)
    if newest is None:
        return 0, set()
    return newest + 1, {path for part in parts[newest] for path in _added(part)}


def _added(part: Path) -> list[str]:
    """The files that a part of a checkpoint names."""
    try:
        with pq.ParquetFile(part) as file:
            actions = file.read(["add.path", "add.partitionValues"])["add"].to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise ProvenanceError(f"not a checkpoint: {error}", where=str(part)) from error
    return [_in_its_folder(part, a["path"], dict(a["partitionValues"])) for a in actions if a]


def _actions(entry: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    lines = entry.read_bytes().split(b"\n")
    if lines == [b""]:
        # A power cut leaves it so, and it reads as nothing.
        raise ProvenanceError("an empty log entry: remove it, then run the step", where=str(entry))
    for line in filter(None, lines):
        try:
            ((kind, action),) = json.loads(line).items()
        except (ValueError, AttributeError) as error:
            raise ProvenanceError(f"not an action: {error}", where=str(entry)) from error
        if kind not in _ACTIONS:
            raise ProvenanceError(f"unknown action {kind}", where=str(entry))
        yield kind, action


def _in_its_folder(entry: Path, path: str, partition: Mapping[str, str]) -> str:
    # A folder's name is encoded, and so is the path to it.
    folders = [folder.partition("=") for folder in unquote(path).split("/")[:-1]]
    named = {name: unquote(value) for name, _, value in folders}
    if named != partition:
        raise ProvenanceError(f"{path} is said to hold {dict(partition)}", where=str(entry))
    return path
