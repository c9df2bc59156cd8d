from __future__ import annotations

import numpy as np
import pytest

from features.config import Limits
from features.errors import MediaError, Reason
from features.video.timeline import Timeline, build_timeline, increasing_pts

TICK = 0.01


def timeline(pts: list[int], random_access: list[bool] | None = None, **limits: float) -> Timeline:
    return build_timeline(
        pts, [0] * len(pts), TICK, 0.0, Limits(**limits), random_access=random_access
    )


def test_the_frame_on_the_screen_is_the_last_one_that_appeared() -> None:
    # In the order of packets: the third frame is shown last.
    found = timeline([100, 104, 120, 108])
    assert (found.start_pts, found.end_pts) == (100, 124)
    assert found.seconds == pytest.approx(0.24)
    shown = {-1.0: 100, 0.0: 100, 0.0399: 100, 0.04: 104, 0.08: 108, 0.1999: 108, 0.2: 120, 9: 120}
    assert {t: found.pts_at(t) for t in shown} == shown
    before = {-1.0: 100, 0.0: 100, 0.04: 100, 0.0401: 104, 0.08: 104, 0.2: 108, 0.24: 120, 9: 120}
    assert {t: found.pts_before(t) for t in before} == before


def test_the_last_frame_lasts_for_its_duration_or_the_median_step() -> None:
    found = build_timeline([0, 4, 8], [4, 4, 9], TICK, 0.0, Limits())
    assert found.end_pts == 17
    assert timeline([0, 4, 8, 20]).end_pts == 24
    assert timeline([7]).end_pts == 8


def test_closed_gops_start_at_random_access_points_and_open_gops_merge() -> None:
    closed = timeline([0, 2, 1, 3, 5, 4], [True, False, False, True, False, False])
    assert closed.closed_gops() == [(0, 3), (3, 6)]
    # The frame after the second keyframe is shown before it and needs the group before.
    leading = timeline([0, 1, 3, 2, 4], [True, False, True, False, False])
    assert leading.closed_gops() == [(0, 5)]
    # A frame of the first group is shown after the second keyframe.
    trailing = timeline([0, 9, 3, 4], [True, False, True, False])
    assert trailing.closed_gops() == [(0, 4)]
    assert timeline([0, 1, 2], [False, True, False]).closed_gops() == [(0, 1), (1, 3)]


@pytest.mark.parametrize(
    ("pts", "increasing"),
    [
        ([0, 10, 25], [0, 10, 25]),
        # Missing pts: interpolated between neighbours, one step apart at the ends.
        ([None, None, 40, None, 60], [20, 30, 40, 50, 60]),
        ([40, None, None], [40, 50, 60]),
        ([None, None], [0, 10]),
        # Decoding times: the right values in another order.
        ([0, 20, 30, 10, 50, 60, 40], [0, 10, 20, 30, 40, 50, 60]),
        # A single slip does not move later frames.
        ([0, 10, 10, 30], [0, 10, 11, 30]),
        # A second recording follows.
        ([500, 510, 520, 0, 10, 20], [500, 510, 520, 530, 540, 550]),
        ([500, 510, 0, 10, 0, 10], [500, 510, 520, 530, 531, 532]),
        ([500, 900, 0, 400, 0], [500, 900, 910, 1310, 1320]),
    ],
)
def test_frames_get_increasing_pts(pts: list[int | None], increasing: list[int]) -> None:
    assert increasing_pts(pts, 10) == increasing


def test_hidden_frames_are_decoded_but_not_shown() -> None:
    pts, hidden = [0, 4, 8, 12], [True, True, False, False]
    found = build_timeline(
        pts, [0] * 4, TICK, 0.0, Limits(), random_access=[True] * 4, hidden=hidden
    )
    assert (found.start_pts, found.end_pts, found.seconds) == (8, 16, pytest.approx(0.08))
    assert (found.pts_at(-1), found.pts_at(0), found.pts_at(9)) == (8, 8, 12)
    assert found.closed_gops() == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_the_missing_share_is_relative_to_the_declared_duration() -> None:
    def missing(declared: float) -> float:
        return build_timeline([0, 50], [50, 50], TICK, declared, Limits()).missing_share

    assert (missing(0.0), missing(0.5), missing(1.0)) == (0, 0, 0)
    assert missing(4.0) == pytest.approx(0.75)


def test_the_duration_of_the_frames_is_limited() -> None:
    with pytest.raises(MediaError, match=r"limits\.seconds") as caught:
        timeline([0, 100], seconds=1.5)
    assert caught.value.reason is Reason.TOO_LONG
    assert timeline([0, 100], seconds=2.0).seconds == 2.0


def test_large_pts_stay_exact() -> None:
    start = 2**53 + 1
    found = build_timeline([start, start + 1], [1, 1], 1 / 90_000, 0.0, Limits())
    assert found.pts_at(1.5 / 90_000) in (start, start + 1)
    assert found.seconds == pytest.approx(2 / 90_000)
    assert np.array_equal(found.pts, [start, start + 1])


@pytest.mark.parametrize("pts", [[0, 2**62 + 1], [-(2**63) - 5, -(2**63)], [2**64, 2**64 + 1]])
def test_pts_over_62_bits_reject_the_file(pts: list[int]) -> None:
    with pytest.raises(MediaError) as caught:
        timeline(pts)
    assert caught.value.reason is Reason.UNDECODABLE
