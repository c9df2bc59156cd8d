"""Text for a terminal: columns by the width that characters take, nothing that moves the cursor."""

from __future__ import annotations

from collections.abc import Sequence

import wcwidth


def printable(text: str) -> str:
    """The text with a "?" for every character that is not shown: titles come from strangers."""
    return "".join(c if c.isprintable() else "?" for c in text)


def table(rows: Sequence[Sequence[str]], *, figures: bool = False) -> list[str]:
    """Rows of cells as lines, each cell under the one above.

    Args:
        rows: the head first, if there is one; all of one length.
        figures: the columns after the first hold numbers, which end where the column does.
    """
    safe = [[printable(cell) for cell in row] for row in rows]
    # A Chinese character takes two places of a terminal, an accent of its own none.
    widths = [max(map(wcwidth.width, column)) for column in zip(*safe, strict=True)]
    return ["  ".join(_cells(row, widths, figures=figures)).rstrip() for row in safe]


def _cells(row: Sequence[str], widths: Sequence[int], *, figures: bool) -> list[str]:
    pad = wcwidth.rjust if figures else wcwidth.ljust
    return [wcwidth.ljust(row[0], widths[0]), *map(pad, row[1:], widths[1:])]
