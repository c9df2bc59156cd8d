"""Formats text for a terminal: aligned columns without control characters."""

from __future__ import annotations

from collections.abc import Sequence

import wcwidth


def printable(text: str) -> str:
    """Replace control characters by "?": titles from manifests must not move the cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def table(rows: Sequence[Sequence[str]], *, figures: bool = False) -> list[str]:
    """Align rows of cells in columns; return one line per row.

    Args:
        rows: the cells; all rows of one length. A header is simply the first row.
        figures: right-align the columns after the first, which hold numbers.
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    # Terminals show a Chinese character two columns wide, a combining accent zero.
    widths = [max(map(wcwidth.width, column)) for column in zip(*safe, strict=True)]
    return ["  ".join(_cells(row, widths, figures=figures)).rstrip() for row in safe]


def _cells(row: Sequence[str], widths: Sequence[int], *, figures: bool) -> list[str]:
    pad = wcwidth.rjust if figures else wcwidth.ljust
    return [wcwidth.ljust(row[0], widths[0]), *map(pad, row[1:], widths[1:])]
