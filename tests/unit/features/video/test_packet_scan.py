from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features import Limits, MediaError, MediaFile, Reason
from features.video.packet_scan import scan_packets
from features.video.timeline import Timeline
from tests.helpers.media_kinds import KINDS

Rendered = Callable[[str], Path]


def scan(path: Path, limits: Limits | None = None) -> Timeline | None:
    with MediaFile(path).open() as demuxer:
        stream = demuxer.video_stream
        assert stream is not None
        return scan_packets(demuxer, stream, limits or Limits())


@pytest.mark.parametrize(
    "name",
    ["h264.mp4", "h264_uneven.mkv", "h264_edit_list.mp4", "h264_late.mp4", "vp9.webm"],
)
def test_the_timeline_has_the_times_of_all_shown_frames(name: str, rendered: Rendered) -> None:
    timeline = scan(rendered(name))
    assert timeline is not None
    kind = next(kind for kind in KINDS if kind.name == name)
    shown = (timeline.pts[timeline.display_order] - timeline.start_pts) * timeline.time_base
    np.testing.assert_allclose(shown, kind.times(), atol=0.0015)


@pytest.mark.parametrize(
    "name", ["h264.avi", "mpeg4.avi", "h264.asf", "h264_twice.ts", "h264_again.mp4"]
)
def test_packets_without_reliable_pts_give_no_timeline(name: str, rendered: Rendered) -> None:
    assert scan(rendered(name)) is None


def test_pts_in_the_order_of_packets_are_in_doubt_if_frames_are_reordered(
    rendered: Rendered,
) -> None:
    in_doubt = scan(rendered("mpeg4_no_pts.mp4"))
    assert in_doubt is not None
    assert in_doubt.pts_in_doubt
    plain = scan(rendered("mpeg4.mp4"))
    assert plain is not None
    assert not plain.pts_in_doubt


@pytest.mark.parametrize(
    ("name", "can_skip"),
    [
        ("h264.mp4", True),
        ("hevc.mp4", True),
        # FFmpeg counts frames of lower layers as unreferenced.
        ("hevc_layers.mkv", False),
        # A skipped VP8 frame takes its segment map with it.
        ("vp8.webm", False),
    ],
)
def test_frames_are_skipped_only_if_the_decoder_does_it_safely(
    name: str, can_skip: bool, rendered: Rendered
) -> None:
    timeline = scan(rendered(name))
    assert timeline is not None
    assert timeline.can_skip == can_skip


@pytest.mark.parametrize(
    ("name", "gops"),
    [
        ("h264.mp4", 3),
        ("h264_fragmented.mp4", 3),
        ("vp9.webm", 3),
        ("av1.mp4", 3),
        ("mjpeg.mov", 60),
        ("h264_one_keyframe.mp4", 1),
        ("h264_open_gop.mp4", 1),
        ("h264_open_gop.ts", 1),
        ("h264_intra_refresh.mkv", 1),
    ],
)
def test_closed_gops_start_only_at_random_access_points(
    name: str, gops: int, rendered: Rendered
) -> None:
    timeline = scan(rendered(name))
    assert timeline is not None
    assert len(timeline.closed_gops()) == gops


def test_frames_are_limited_while_scanning(rendered: Rendered) -> None:
    assert scan(rendered("h264.mp4"), Limits(frames=60)) is not None
    with pytest.raises(MediaError, match=r"limits\.frames") as caught:
        scan(rendered("h264.mp4"), Limits(frames=59))
    assert caught.value.reason is Reason.TOO_LONG
