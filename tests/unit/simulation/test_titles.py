"""The titles and artists of simulated tracks."""

from __future__ import annotations

import numpy as np

from simulation.titles import make_artist, make_title


def titles(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [make_title(row, row % 6, rng) for row in range(60)]


def test_equal_seeds_give_equal_titles() -> None:
    assert titles(1) == titles(1)
    assert titles(1) != titles(2)


def test_every_sixth_title_has_unusual_characters() -> None:
    unusual = [row for row, title in enumerate(titles(1)) if not title.replace(" ", "").isalpha()]
    plain = [row for row in range(60) if row % 6 != 3]
    assert not set(unusual) & set(plain)
    assert any(not title.isascii() for title in titles(1)[3::6])
    assert any("<" in title for title in titles(1)[3::6])


def test_artists_are_drawn_from_several_names() -> None:
    rng = np.random.default_rng(0)
    assert len({make_artist(rng) for _ in range(50)}) > 3
