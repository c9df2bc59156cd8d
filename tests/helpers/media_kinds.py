"""Renders small media files of every kind that decoding can get wrong.

`python -m tests.helpers.media_kinds FOLDER` writes all of them into a folder.

Each frame shows its number as a row of black and white cells along its top. The number can be
read back from a decoded frame, whatever the codec did to the colours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from features.arrays import Float32Array, Float64Array, UInt8Array
from tests.helpers import mp4_boxes
from tests.helpers.mp4_boxes import with_edit_list, with_sync_samples, without_boxes

WIDTH, HEIGHT = 192, 112
CELLS = 12
RATE = 24


@dataclass(frozen=True)
class MediaKind:
    """How one file is encoded, and which frames it must show.

    Attributes:
        name: file name with its suffix.
        codec: FFmpeg's name of the encoder.
        frames: number of encoded frames.
        options: the encoder's private options.
        container: options of the muxer.
        pixels: pixel format.
        size: width and height in pixels, as shown.
        gop: most frames from one keyframe to the next.
        b_frames: most B-frames in a row.
        pts: presentation time of frame i in ticks of 1/1200 s; None is a constant rate.
        prepare: changes the stream before its first packet.
        first: number of the first frame that is shown.
        edits: an edit list, see ``mp4_boxes.with_edit_list``.
        change: changes the bytes of the file.
        drop: number of packets left out at the start.
        twice: the file's bytes are written twice, one copy after the other.
        stored: turns an upright image into the stored one.
    """

    name: str
    codec: str
    frames: int = 60
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    size: tuple[int, int] = (WIDTH, HEIGHT)
    gop: int = 24
    b_frames: int = 0
    pts: Callable[[int], int] | None = None
    prepare: Callable[[av.VideoStream], None] | None = None
    first: int = 0
    edits: tuple[tuple[float, float | None], ...] = ()
    change: mp4_boxes.ChangeBytes | None = None
    drop: int = 0
    twice: bool = False
    stored: Callable[[UInt8Array], UInt8Array] = lambda image: image

    def shown(self) -> list[tuple[int, float]]:
        """Return (number, second) of each frame in display order."""
        ticks = [self.pts(i) if self.pts else i * 1200 // RATE for i in range(self.frames)]
        if self.edits:
            return mp4_boxes.shown_frames(self.edits, [tick / 1200 for tick in ticks])
        once = [(i, ticks[i] / 1200) for i in range(self.first, self.frames)]
        again = [(i, time + self.frames / RATE) for i, time in once] if self.twice else []
        return once + again

    def times(self) -> Float64Array:
        """Return when each shown frame appears, in seconds from the first one."""
        seconds = np.array([time for _, time in self.shown()])
        return seconds - seconds[0]


def uneven(i: int) -> int:
    """Return the pts of frame i at a variable frame rate: steps of 17, 50 and 133 ms."""
    steps = [20, 20, 60, 20, 160, 60]
    return (i // 6) * sum(steps) + sum(steps[: i % 6])


def early(i: int) -> int:
    """Return the pts of frame i if the first ten are negative."""
    return (i - 10) * 50


def rotate_display(degrees: int) -> Callable[[av.VideoStream], None]:
    return lambda stream: stream.set_display_rotation(degrees)


def quarter_turns(turns: int) -> Callable[[UInt8Array], UInt8Array]:
    return lambda image: np.rot90(image, turns)


def mirror_display(stream: av.VideoStream) -> None:
    stream.set_display_rotation(0, hflip=True)


X265 = "log-level=none:pools=1:bframes=4:b-adapt=0"
HEVC = {"preset": "ultrafast", "x265-params": X265 + ":open-gop=0:scenecut=0"}
HEVC_OPEN = {"preset": "ultrafast", "x265-params": X265 + ":open-gop=1:keyint=24:scenecut=0"}
QUALITY = {"qscale": "2"}
AS_IS = {"avoid_negative_ts": "disabled"}
DECODE_ONLY = without_boxes(b"ctts", b"edts")
AGAIN = ((0.875, 0.125), (0.875, 0.375))
SWAPPED = ((0.75, 1.5), (0.625, 0.25))
VPX = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}
X264 = {"preset": "veryfast", "crf": "18"}

KINDS = (
    MediaKind("h264.mp4", "libx264", options=X264, b_frames=3),
    MediaKind("h264_one_keyframe.mp4", "libx264", options=X264, gop=250, b_frames=3),
    MediaKind("h264_b_pyramid.mkv", "libx264", options=X264 | {"b-pyramid": "strict"}, b_frames=7),
    MediaKind(
        "h264_open_gop.mp4",
        "libx264",
        options=X264 | {"x264-params": "open-gop=1:b-adapt=0"},
        b_frames=3,
    ),
    MediaKind(
        "h264_open_gop.ts", "libx264", options=X264 | {"x264-params": "open-gop=1"}, b_frames=3
    ),
    MediaKind(
        "h264_intra_refresh.mkv",
        "libx264",
        options=X264 | {"x264-params": "intra-refresh=1"},
        gop=20,
    ),
    MediaKind(
        "h264_interlaced.mp4",
        "libx264",
        options=X264 | {"x264-params": "tff=1:bframes=2"},
        b_frames=2,
    ),
    MediaKind("h264_uneven.mp4", "libx264", options=X264, b_frames=2, pts=uneven),
    MediaKind("h264_uneven.mkv", "libx264", options=X264, b_frames=2, pts=uneven),
    MediaKind(
        "h264_edit_list.mp4",
        "libx264",
        options=X264,
        b_frames=2,
        pts=lambda i: (i - 17) * 50,
        first=17,
        container={"avoid_negative_ts": "disabled", "use_editlist": "1"},
    ),
    MediaKind(
        "h264_fragmented.mp4",
        "libx264",
        options=X264,
        b_frames=2,
        container={"movflags": "frag_keyframe+empty_moov"},
    ),
    MediaKind(
        "h264_turned_90.mp4",
        "libx264",
        options=X264,
        prepare=rotate_display(90),
        stored=quarter_turns(-1),
    ),
    MediaKind(
        "h264_turned_180.mov",
        "libx264",
        options=X264,
        prepare=rotate_display(180),
        stored=quarter_turns(2),
    ),
    MediaKind(
        "h264_turned_270.mp4",
        "libx264",
        options=X264,
        prepare=rotate_display(270),
        stored=quarter_turns(1),
    ),
    MediaKind(
        "h264_mirrored.mp4", "libx264", options=X264, prepare=mirror_display, stored=np.fliplr
    ),
    MediaKind("h264_10bit.mkv", "libx264", options=X264, pixels="yuv420p10le"),
    MediaKind("h264_444.mkv", "libx264", options=X264, pixels="yuv444p", b_frames=2),
    MediaKind("h264_one_frame.mp4", "libx264", frames=1, options=X264),
    MediaKind("h264_five_frames.mp4", "libx264", frames=5, options=X264, b_frames=2),
    MediaKind("h264.avi", "libx264", options=X264, b_frames=2),
    MediaKind("h264.flv", "libx264", options=X264, b_frames=2),
    MediaKind(
        "hevc.mp4",
        "libx265",
        options={"preset": "ultrafast", "x265-params": X265},
    ),
    MediaKind(
        "hevc_layers.mkv",
        "libx265",
        options={
            "preset": "ultrafast",
            "x265-params": X265 + ":temporal-layers=3",
        },
    ),
    MediaKind("vp8.webm", "libvpx", options=VPX),
    MediaKind(
        "vp9.webm",
        "libvpx-vp9",
        options=VPX | {"deadline": "realtime"},
    ),
    MediaKind("av1.mp4", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    MediaKind("av1.webm", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}, gop=12),
    MediaKind("mpeg4.mp4", "mpeg4", options={"qscale": "2"}, b_frames=2),
    MediaKind("mpeg4.avi", "mpeg4", options={"qscale": "2"}, b_frames=2),
    MediaKind("mpeg2.ts", "mpeg2video", options={"b": "3M"}, b_frames=2),
    MediaKind("mpeg2.mpg", "mpeg2video", options={"b": "3M"}, b_frames=2),
    MediaKind("mjpeg.mov", "mjpeg", pixels="yuvj420p"),
    MediaKind("h263.3gp", "h263", size=(176, 144)),
    MediaKind("prores.mov", "prores", pixels="yuv422p10le", frames=20),
    MediaKind("wmv2.asf", "wmv2", options={"b": "3M"}),
    # Edit lists: frames that are decoded but not shown, parts that are reordered or repeated.
    MediaKind("mpeg4_trimmed.mp4", "mpeg4", options=QUALITY, edits=((1.5, 0.75),)),
    MediaKind("mpeg4_trimmed_b.mp4", "mpeg4", options=QUALITY, b_frames=2, edits=((1.5, 0.75),)),
    MediaKind("h263_trimmed.3gp", "h263", size=(176, 144), edits=((1.0, 1.25),)),
    MediaKind("h264_trimmed.mp4", "libx264", options=X264, b_frames=2, edits=((1.0, 1.25),)),
    MediaKind(
        "h264_late.mp4", "libx264", options=X264, b_frames=2, edits=((0.75, None), (2.5, 0.0))
    ),
    MediaKind("h264_again.mp4", "libx264", options=X264, b_frames=2, edits=AGAIN),
    MediaKind("h264_swapped.mp4", "libx264", options=X264, b_frames=2, edits=SWAPPED),
    MediaKind(
        "vp9_swapped.mp4", "libvpx-vp9", options=VPX | {"deadline": "realtime"}, edits=SWAPPED
    ),
    # Wrong keyframe tables.
    MediaKind("mpeg4_all_sync.mp4", "mpeg4", options=QUALITY, change=without_boxes(b"stss")),
    MediaKind(
        "mpeg4_false_sync.mp4", "mpeg4", options=QUALITY, change=with_sync_samples(1, 8, 17, 30, 41)
    ),
    MediaKind("h263_all_sync.3gp", "h263", size=(176, 144), change=without_boxes(b"stss")),
    MediaKind(
        "hevc_false_sync.mp4", "libx265", options=HEVC, change=with_sync_samples(1, 8, 17, 30, 41)
    ),
    MediaKind(
        "qtrle_all_sync.mov", "qtrle", pixels="rgb24", frames=30, change=without_boxes(b"stss")
    ),
    MediaKind("h263.avi", "h263", size=(176, 144)),
    # Streams that start inside a GOP.
    MediaKind("h264_cut.mkv", "libx264", options=X264, b_frames=3, drop=5, first=24),
    MediaKind("hevc_open_gop_cut.mkv", "libx265", options=HEVC_OPEN, drop=21, first=24),
    # Times: negative, decoding times only, restarting.
    MediaKind("h264_below_zero.mkv", "libx264", options=X264, container=AS_IS, pts=early),
    MediaKind("mpeg4_no_pts.mp4", "mpeg4", options=QUALITY, b_frames=2, change=DECODE_ONLY),
    MediaKind("h264.asf", "libx264", options=X264, b_frames=2),
    MediaKind("mpeg4.asf", "mpeg4", options=QUALITY, b_frames=2),
    MediaKind("h264.mpg", "libx264", options=X264, b_frames=2),
    MediaKind("mpeg2_twice.ts", "mpeg2video", options={"b": "3M"}, b_frames=2, twice=True),
    MediaKind("h264_twice.ts", "libx264", options=X264, b_frames=2, twice=True),
    MediaKind("vp8_alt_ref.webm", "libvpx", options=VPX | {"deadline": "good", "cpu-used": "5"}),
)


def draw_frame(number: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> UInt8Array:
    """Return frame ``number``, uint8 [height, width, 3]: its cells above moving shapes."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = (x + 3 * number) % 256
    image[..., 1] = (2 * y + 5 * number) % 256
    image[..., 2] = 128 + 100 * np.sin((x + y) / 17 + number / 5)
    left = (7 * number) % (width - 24)
    image[height // 2 : height // 2 + 24, left : left + 24] = (250, 40, 40)
    edge = height // 4
    image[:edge] = 0
    for cell in range(CELLS):
        if number >> cell & 1:
            image[:edge, cell * width // CELLS : (cell + 1) * width // CELLS] = 255
    return image


def read_frame_number(image: UInt8Array) -> int:
    """Return the number that an upright frame shows, uint8 [height, width, 3] of any size."""
    height, width = image.shape[:2]
    row = image[height // 16 : height * 3 // 16].mean(axis=(0, 2))
    middles = ((np.arange(CELLS) + 0.5) * width / CELLS).astype(int)
    return int(sum(1 << cell for cell, x in enumerate(middles) if row[x] > 127))


def _frames(kind: MediaKind) -> Iterator[av.VideoFrame]:
    """Yield the frames of a kind with their presentation times."""
    for number in range(kind.frames):
        stored = np.ascontiguousarray(kind.stored(draw_frame(number, kind.size)))
        frame = av.VideoFrame.from_ndarray(stored, "rgb24")
        frame = frame.reformat(format=kind.pixels)
        frame.pts = kind.pts(number) if kind.pts else number
        frame.time_base = Fraction(1, 1200) if kind.pts else Fraction(1, RATE)
        yield frame


def render(kind: MediaKind, folder: Path) -> Path:
    """Write one file and return its path."""
    path = folder / kind.name
    with av.open(str(path), "w", container_options=kind.container) as output:
        stream = output.add_stream(kind.codec, rate=RATE, options=dict(kind.options))
        stream.height, stream.width = kind.stored(draw_frame(0, kind.size)).shape[:2]
        stream.pix_fmt = kind.pixels
        context = stream.codec_context
        context.gop_size = kind.gop
        context.max_b_frames = kind.b_frames
        context.thread_count = 1
        if "tff" in kind.options.get("x264-params", ""):
            context.flags |= 0x00040000 | 0x20000000
        if kind.pts:
            context.time_base = Fraction(1, 1200)
        if kind.prepare:
            kind.prepare(stream)
        packets = [p for frame in _frames(kind) for p in stream.encode(frame)]
        output.mux([*packets, *stream.encode(None)][kind.drop :])
    data = path.read_bytes()
    if kind.edits:
        data = with_edit_list(*kind.edits)(data)
    if kind.change:
        data = kind.change(data)
    path.write_bytes(data * (2 if kind.twice else 1))
    return path


def tone(seconds: float, rate: int, channels: int = 2) -> Float32Array:
    """Return a chord with a beat, float32 [channels, n]; each channel is a little quieter."""
    time = np.arange(round(seconds * rate)) / rate
    beat = np.exp(-8 * (time * 2 % 1))
    voices = [np.sin(2 * np.pi * f * time) for f in (220.0, 277.2, 329.6)]
    mixed = 0.2 * beat * np.sum(voices, axis=0)
    return np.stack([mixed * (1 - 0.1 * c) for c in range(channels)]).astype(np.float32)


def add_sound(
    output: av.container.OutputContainer,
    stream: av.AudioStream,
    samples: Float32Array,
    start: float = 0.0,
) -> None:
    """Encode float32 [channels, n] at the stream's own sample rate, from ``start`` seconds on."""
    context = stream.codec_context
    layout, rate = context.layout.name, context.sample_rate
    resampler = av.AudioResampler(format=context.format.name, layout=layout, rate=rate)
    for at in range(0, samples.shape[1], 4096):
        piece = np.ascontiguousarray(samples[:, at : at + 4096])
        frame = av.AudioFrame.from_ndarray(piece, "fltp", layout)
        frame.sample_rate, frame.pts = rate, at + round(start * rate)
        for converted in resampler.resample(frame):
            output.mux(stream.encode(converted))
    output.mux(stream.encode(None))


def write_sound(
    path: Path,
    codec: str,
    samples: Float32Array,
    rate: int,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a file with audio only: float32 [channels, n]."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, options=options or {})
        add_sound(output, stream, samples)
    return path


def write_film(
    path: Path,
    seconds: float = 4.0,
    picture_codec: str = "libx264",
    sound_codec: str | None = "aac",
    tracks: int = 1,
    container: dict[str, str] | None = None,
) -> Path:
    """Write a file with video and audio."""
    with av.open(str(path), "w", container_options=container or {}) as output:
        stream = output.add_stream(picture_codec, rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sounds = [
            output.add_stream(sound_codec, rate=48_000, layout="stereo")
            for _ in range(tracks if sound_codec else 0)
        ]
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
        for sound in sounds:
            add_sound(output, sound, tone(seconds, 48_000))
    return path


def write_album(path: Path) -> Path:
    """Write music with cover art, which is a video stream of one frame."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libmp3lame", rate=44_100, layout="stereo")
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(draw_frame(0), "rgb24").reformat(format="yuvj420p")
        output.mux(cover.encode(frame))
        output.mux(cover.encode(None))
        add_sound(output, stream, tone(4.0, 44_100))
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "film.mp4": write_film,
    "film.webm": lambda path: write_film(path, 4.0, "libvpx", "libopus"),
    "silent.mp4": lambda path: write_film(path, 4.0, "libx264", None),
    "two_streams.mkv": write_film,
    "many_streams.mkv": lambda path: write_film(path, 1.0, "libx264", "aac", 20),
    "album.mp3": write_album,
    "mono.wav": lambda path: write_sound(path, "pcm_s16le", tone(4.0, 44_100, 1), 44_100),
    "float.wav": lambda path: write_sound(path, "pcm_f32le", tone(4.0, 44_100), 44_100),
    "bytes.wav": lambda path: write_sound(path, "pcm_u8", tone(4.0, 44_100), 44_100),
    "deep.wav": lambda path: write_sound(path, "pcm_s32le", tone(4.0, 44_100), 44_100),
    "surround.flac": lambda path: write_sound(path, "flac", tone(4.0, 48_000, 6), 48_000),
    "speech.amr": lambda path: write_sound(path, "libopencore_amrnb", tone(4.0, 8000, 1), 8000),
    "stereo.mp3": lambda path: write_sound(path, "libmp3lame", tone(4.0, 44_100), 44_100),
    "stereo.ogg": lambda path: write_sound(path, "libopus", tone(4.0, 48_000), 48_000),
    "stereo.m4a": lambda path: write_sound(path, "aac", tone(4.0, 44_100), 44_100),
    "stereo.aiff": lambda path: write_sound(path, "pcm_s16be", tone(4.0, 44_100), 44_100),
}


def main() -> None:
    """Render every kind into the folder given on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    av.logging.set_level(None)
    for kind in KINDS:
        render(kind, folder)
    for name, write in FILES.items():
        write(folder / name)


if __name__ == "__main__":
    main()
