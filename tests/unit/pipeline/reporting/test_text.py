"""Columns for a terminal."""

from __future__ import annotations

import unicodedata

import pytest

from pipeline.reporting.text import printable, table


@pytest.mark.parametrize(
    "title",
    [
        "Copper & Clay",
        "\u5317\u306e\u98a8",  # Japanese: two places a character
        "cafe\u0301",  # an accent of its own: no place
        "\u0644\u064a\u0644\u0629",  # Arabic
        "\U0001f3b5 song",  # a picture: two places
    ],
)
def test_the_next_column_starts_where_a_terminal_puts_it(title: str) -> None:
    head, line = table([("title", "genre"), (title, "folk")])
    before = line[: line.index("folk")]
    places = sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in before
    )
    assert places == head.index("genre")


def test_figures_end_where_their_column_does() -> None:
    assert table([("", "recall"), ("popularity", "0.1")], figures=True) == [
        "            recall",
        "popularity     0.1",
    ]


def test_nothing_moves_the_cursor() -> None:
    assert printable("\x1b[2J gone\n\u202e") == "?[2J gone??"
    assert table([("a\rb", "c")]) == ["a?b  c"]
