"""What uploaders are known to know: the tracks of their own history, as a padded table."""

import numpy as np

from models.arrays import Int64Array
from models.data import Picks


def history_table(picks: Picks, limit: int) -> tuple[Int64Array, Int64Array]:
    """Collect each uploader's distinct tracks, the latest first where there are too many.

    Args:
        picks: training picks; no later ones, or the table would know the future.
        limit: tracks kept of an uploader.

    Returns:
        (row int64[P], table int64[U, H]): the table's row of each pick, and tracks of each
        uploader, padded with -1; H is at most `limit`.
    """
    _, row = np.unique(picks.uploader, return_inverse=True)
    latest_first = np.lexsort((-picks.time, row))
    pairs = np.stack([row[latest_first], picks.music[latest_first]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    pairs = pairs[np.sort(first)]
    start = np.searchsorted(pairs[:, 0], pairs[:, 0])
    place = np.arange(len(pairs)) - start
    keep = place < limit
    table = np.full((row.max() + 1, place[keep].max() + 1), -1, dtype=np.int64)
    table[pairs[keep, 0], place[keep]] = pairs[keep, 1]
    return row.astype(np.int64), table
