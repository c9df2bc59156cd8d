from __future__ import annotations

import numpy as np

from models import Picks
from models.choice_set import uploader_tracks


def picks(uploader: list[int], music: list[int], time: list[float]) -> Picks:
    n = len(uploader)
    return Picks(
        np.arange(n),
        np.array(music),
        np.array(uploader),
        np.array(time, dtype=np.float64),
        np.ones((n, 1), dtype=np.float32),
    )


def test_each_uploader_has_a_row_of_distinct_tracks_latest_first() -> None:
    row, table = uploader_tracks(picks([9, 4, 9, 9], [1, 2, 3, 1], [1.0, 2.0, 3.0, 4.0]), 10)
    assert row.tolist() == [1, 0, 1, 1]
    assert table.tolist() == [[2, -1], [1, 3]]


def test_the_latest_tracks_are_kept_up_to_the_limit() -> None:
    _, table = uploader_tracks(picks([0] * 4, [5, 6, 7, 8], [4.0, 1.0, 3.0, 2.0]), 2)
    assert table.tolist() == [[5, 7]]


def test_the_table_equals_sets_built_row_by_row() -> None:
    rng = np.random.default_rng(0)
    who, what = rng.integers(6, size=80), rng.integers(9, size=80)
    row, table = uploader_tracks(picks(who.tolist(), what.tolist(), rng.random(80).tolist()), 64)
    for each, uploader in zip(row, who, strict=True):
        known = {int(track) for track in table[each] if track >= 0}
        assert known == set(what[who == uploader].tolist())
        assert (table[each] >= 0).sum() == len(known)
