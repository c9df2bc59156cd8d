from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from features.config import Limits
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.video import sampling
from features.video.extractor import segment_centres
from features.video.sampling import Sampled, sample_frames
from features.video.scaling import Scaler
from features.video.timeline import Timeline
from tests.helpers.media_kinds import (
    HEIGHT,
    KINDS,
    RATE,
    WIDTH,
    MediaKind,
    read_frame_number,
    render,
)
from tests.helpers.odd_streams import write_packed, write_two_sizes

KIND = {kind.name: kind for kind in KINDS}
Rendered = Callable[[str], Path]


def full_decode(path: Path) -> list[npt.NDArray[np.generic]]:
    """Return every frame in display order, decoded in the plain way."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def sample(
    path: Path, seconds: npt.NDArray[np.float64] | None
) -> tuple[Sampled, dict[int, npt.NDArray[np.generic]], dict[int, int], list[int]]:
    """Sample at the given seconds, or at 16 segment centres.

    Returns:
        The result of sample_frames, the frames and their numbers by pts, and the selected pts.
    """
    arrays: dict[int, npt.NDArray[np.generic]] = {}
    numbers: dict[int, int] = {}
    chosen: list[int] = []
    scale = Scaler(96)

    def select_pts(timeline: Timeline) -> list[int]:
        at = segment_centres((0.0, timeline.seconds), 16) if seconds is None else seconds
        chosen[:] = [timeline.pts_at(t) for t in at]
        return chosen

    def on_frame(ticks: int, frame: av.VideoFrame) -> None:
        arrays[ticks] = frame.to_ndarray()
        numbers[ticks] = read_frame_number(scale(frame))

    return sample_frames(MediaFile(path), select_pts, on_frame), arrays, numbers, chosen


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_sampled_frames_are_those_on_the_screen_at_the_segment_centres(
    kind: MediaKind, rendered: Rendered
) -> None:
    path = rendered(kind.name)
    times = kind.times()
    sampled, arrays, numbers, chosen = sample(path, None)
    timeline = sampled.timeline
    shown = (timeline.pts[timeline.display_order] - timeline.start_pts) * timeline.time_base
    np.testing.assert_allclose(shown, times, atol=0.0015)

    truth = full_decode(path)
    assert len(truth) == len(times)
    centres = segment_centres((0.0, timeline.seconds), 16)
    # The reference: look up each centre in the rendered times, with a tolerance of one tick.
    expected = [int(np.flatnonzero(times <= t + 0.001)[-1]) for t in centres]
    assert [numbers[ticks] for ticks in chosen] == [kind.shown()[i][0] for i in expected]
    for ticks, index in zip(chosen, expected, strict=True):
        np.testing.assert_array_equal(arrays[ticks], truth[index])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("count", [1, 3, 12])
def test_any_selection_of_frames_is_bit_equal_to_a_full_decode(
    kind: MediaKind, count: int, rendered: Rendered
) -> None:
    path = rendered(kind.name)
    truth = full_decode(path)
    seconds = np.random.default_rng(count).choice(kind.times(), min(count, len(truth)), False)
    sampled, arrays, _, chosen = sample(path, seconds + 0.002)
    ordered = sampled.timeline.pts[sampled.timeline.display_order]
    for ticks in chosen:
        np.testing.assert_array_equal(arrays[ticks], truth[int(np.searchsorted(ordered, ticks))])


@pytest.mark.parametrize("name", ["h264.avi", "mpeg4.avi", "h264.asf", "h264_twice.ts"])
def test_a_container_without_reliable_pts_is_decoded_in_full(name: str, rendered: Rendered) -> None:
    assert sample(rendered(name), None)[0].decoder == "pyav-full"


def test_each_single_frame_of_a_file_whose_pts_are_decoding_times(
    rendered: Rendered,
) -> None:
    path = rendered("mpeg4_no_pts.mp4")
    for index, whole in enumerate(full_decode(path)):
        _, arrays, _, (ticks,) = sample(path, np.array([(index + 0.2) / RATE]))
        np.testing.assert_array_equal(arrays[ticks], whole)


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4"])
def test_each_single_frame_of_packed_b_frames(suffix: str, tmp_path: Path) -> None:
    path = write_packed(tmp_path / f"packed.{suffix}")
    for index in range(30):
        _, _, numbers, (ticks,) = sample(path, np.array([(index + 0.2) / RATE]))
        assert numbers[ticks] == index


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_a_second_recording_whose_pts_interleave_with_the_first(
    suffix: str, tmp_path: Path
) -> None:
    second = replace(
        KIND["h264_twice.ts"], name=f"second.{suffix}", twice=False, pts=lambda i: i * 50 + 225
    )
    path = tmp_path / f"both.{suffix}"
    second_bytes = render(second, tmp_path).read_bytes()
    path.write_bytes(
        render(replace(second, pts=lambda i: i * 50 + 200), tmp_path).read_bytes() + second_bytes
    )
    sampled, _, numbers, chosen = sample(path, (np.arange(120) + 0.5) / RATE)
    assert sampled.decoder == "pyav-full"
    assert [numbers[ticks] for ticks in chosen] == [*range(60), *range(60)]
    sampled, _, numbers, (ticks,) = sample(path, np.array([10.2 / RATE]))
    assert numbers[ticks] == 10
    assert sampled.timeline.seconds == pytest.approx(120 / RATE, abs=0.01)


@pytest.mark.parametrize("name", ["h264_trimmed.mp4", "mpeg4_trimmed.mp4", "h264_edit_list.mp4"])
def test_frames_hidden_by_an_edit_list_need_no_full_decode(name: str, rendered: Rendered) -> None:
    sampled, *_ = sample(rendered(name), None)
    assert sampled.decoder == "pyav"
    assert sampled.timeline.hidden.any()


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "flv"])
def test_packets_with_changed_parameters_are_not_skipped(suffix: str, tmp_path: Path) -> None:
    path = write_two_sizes(tmp_path / f"two.{suffix}")
    truth = full_decode(path)
    assert len(truth) == 48
    assert truth[40].shape != truth[0].shape
    sampled, arrays, _, (ticks,) = sample(path, np.array([40.5 / RATE]))
    np.testing.assert_array_equal(arrays[ticks], truth[40])
    assert len(sampled.timeline.closed_gops()) == 2


def test_packets_that_no_wanted_frame_needs_are_not_decoded(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    original = sampling._decode

    def counting(stream, packet, budget):  # type: ignore[no-untyped-def]
        found = original(stream, packet, budget)
        decoded.extend(frame.pts for frame in found)
        return found

    monkeypatch.setattr(sampling, "_decode", counting)
    path = rendered("h264.mp4")
    sampled, _, _, chosen = sample(path, np.array([0.1, 2.3]))
    first, last = chosen
    groups = sampled.timeline.closed_gops()
    middle = sampled.timeline.pts[groups[1][0] : groups[1][1]]
    assert not set(decoded) & set(middle.tolist())
    assert first in decoded
    assert last in decoded
    assert len(decoded) < 25


def test_a_clip_cut_short_is_rejected_beyond_the_allowed_share(
    rendered: Rendered, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.flv"
    flv = rendered("h264.flv").read_bytes()
    cut.write_bytes(flv[: len(flv) * 19 // 20])
    sampled, *_ = sample(cut, None)
    assert 0 < len(sampled.timeline.pts) < 60

    moved = tmp_path / "cut.mov"
    data = bytearray(rendered("mjpeg.mov").read_bytes())
    with av.open(str(rendered("mjpeg.mov"))) as source:
        packets = [(p.pos, p.size) for p in source.demux(source.streams.video[0]) if p.size]
    # The index is at the end of a mov file; it stays intact while frames are wiped out.
    for position, size in packets[30:]:
        data[position : position + size] = bytes(size)
    moved.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        sample(moved, None)
    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"frames": 59}, Reason.TOO_LONG),
        ({"seconds": 2.4}, Reason.TOO_LONG),
        ({"pixels": 192 * 112 - 1}, Reason.TOO_MANY_PIXELS),
        ({"decoded_bytes": 192 * 112 * 3}, Reason.TOO_LARGE),
    ],
)
@pytest.mark.parametrize(
    "name",
    ["h264.mp4", "h264_fragmented.mp4", "h264.avi", "h264.flv", "vp8.webm", "h264_open_gop.ts"],
)
def test_limits_hold_for_decoded_frames(
    name: str, limits: dict[str, float], reason: Reason, rendered: Rendered
) -> None:
    with pytest.raises(MediaError) as caught:
        sample_frames(
            MediaFile(rendered(name), Limits(**limits)), lambda t: t.pts.tolist(), lambda *_: None
        )
    assert caught.value.reason is reason
    assert "limits." in caught.value.detail


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.1, 1e300, float("nan")])
def test_a_wrong_duration_in_the_header_does_not_change_the_limit(
    seconds: float, rendered: Rendered, tmp_path: Path
) -> None:
    data = rendered("h264.flv").read_bytes()
    at = data.index(b"\0\x08duration\0") + 11
    path = tmp_path / "lying.flv"
    path.write_bytes(data[:at] + struct.pack(">d", seconds) + data[at + 8 :])
    assert sample(path, None)[0].timeline.seconds == pytest.approx(2.5, abs=0.01)
    with pytest.raises(MediaError) as caught:
        sample_frames(MediaFile(path, Limits(seconds=2.4)), lambda _: [], lambda *_: None)
    assert caught.value.reason is Reason.TOO_LONG


def test_the_bytes_of_all_attempts_count_together(rendered: Rendered) -> None:
    # The first decode gives the pts, the second the frames.
    once = 60 * WIDTH * HEIGHT * 3 // 2
    path = rendered("h264.avi")

    def read(allowed: int) -> Sampled:
        media = MediaFile(path, Limits(decoded_bytes=allowed))
        return sample_frames(media, lambda t: t.pts.tolist(), lambda *_: None)

    assert read(2 * once).decoder == "pyav-full"
    with pytest.raises(MediaError, match=r"limits\.decoded_bytes"):
        read(2 * once - 1)


def test_a_file_that_is_too_long_is_not_decoded_to_its_end(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []
    original = sampling._decode_all

    def counting(*args):  # type: ignore[no-untyped-def]
        for ticks, frame in original(*args):
            seen.append(ticks)
            yield ticks, frame

    monkeypatch.setattr(sampling, "_decode_all", counting)
    with pytest.raises(MediaError, match=r"limits\.seconds"):
        sample_frames(
            MediaFile(rendered("h264.avi"), Limits(seconds=0.5)), lambda _: [], lambda *_: None
        )
    assert len(seen) < 20
