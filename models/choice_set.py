"""Collects the tracks that each uploader picked: the certain part of the uploader's choice set.

A choice set holds the tracks that an uploader may have considered. The config fields `history`
and `contrast = "history"` refer to these picked tracks; their names are part of settings files
and run ids and therefore stay.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Int64Array
from models.data import Picks


def uploader_tracks(picks: Picks, limit: int) -> tuple[Int64Array, Int64Array]:
    """Collect each uploader's distinct tracks, the latest picks first.

    Args:
        picks: training picks only; with later ones, the table would contain the future.
        limit: largest number of tracks kept per uploader.

    Returns:
        (row int64[P], table int64[U, H]): the row of the table for each pick, and the tracks of
        each uploader, padded with -1; H is at most `limit`.
    """
    _, row = np.unique(picks.uploader, return_inverse=True)
    latest_first = np.lexsort((-picks.time, row))
    pairs = np.stack([row[latest_first], picks.music[latest_first]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    pairs = pairs[np.sort(first)]
    start = np.searchsorted(pairs[:, 0], pairs[:, 0])
    column = np.arange(len(pairs)) - start
    keep = column < limit
    table = np.full((row.max() + 1, column[keep].max() + 1), -1, dtype=np.int64)
    table[pairs[keep, 0], column[keep]] = pairs[keep, 1]
    return row.astype(np.int64), table
