"""Formats the results of steps: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.reporting.text import table

_INDENT = "  "


def as_json(result: Mapping[str, Any]) -> str:
    """Return a result as JSON on one line."""
    return json.dumps(result, ensure_ascii=False, default=str)


def as_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a result as aligned lines, one per field.

    Several entries of the same fields, such as the rules of the gate or the sizes of all tables,
    become a table with a header.

    Example:
        >>> as_lines({"run_id": "r", "verdicts": [{"rule": "coverage", "passed": False}]})
        ['  run id  r', '  verdicts', '    rule      passed', '    coverage  no']
    """
    if result and all(map(_is_entry, result.values())):
        return _entries([{"": name} | dict(entry) for name, entry in result.items()], _INDENT)
    plain = {name: value for name, value in result.items() if not _is_entries(value)}
    rows = [(_title(name), _text(value)) for name, value in plain.items()]
    lines = [_INDENT + line for line in table(rows)] if rows else []
    for name, value in result.items():
        if name not in plain:
            lines += [_INDENT + _title(name), *_entries(value, 2 * _INDENT)]
    return lines


def as_line(step: str, result: Mapping[str, Any]) -> str:
    """Return the fields of a result on one line, without tables and without empty fields."""
    fields = [
        f"{_title(name)} {_text(value)}"
        for name, value in result.items()
        if not _is_entries(value) and not isinstance(value, Mapping) and value not in (None, "", ())
    ]
    return f"{_INDENT}{step}: {', '.join(fields) or 'done'}"


def _is_entry(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _is_entries(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_entry, value))


def _entries(entries: Sequence[Mapping[str, Any]], indent: str) -> list[str]:
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    rows = [[_text(entry.get(name)) for name in names] for entry in entries]
    return [indent + line for line in table([[*map(_title, names)], *rows])]


def _title(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
