"""Turns the frames of a video file into its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np

from features.arrays import Float64Array, UInt8Array
from features.config import VisualConfig
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.networks.export import ensure_encoder
from features.networks.extractor_name import extractor_name
from features.networks.onnx_network import FrameEncoder
from features.results import VisualFeatures
from features.video import blocks
from features.video.sampling import Sampled, sample_frames
from features.video.scaling import Scaler
from features.video.timeline import Timeline

# Start and end in seconds from the first frame.
Span = tuple[float, float]


@dataclass(frozen=True)
class _FramePlan:
    """Pts of the frames that one span needs.

    Attributes:
        centres: frames for the network and for optical flow.
        partners: of each centre, the second frame for optical flow.
        window: frames in close order around the middle of the span.
    """

    centres: list[int]
    partners: list[int]
    window: list[int]

    def all_pts(self) -> set[int]:
        return {*self.centres, *self.partners, *self.window}


def segment_centres(span: Span, count: int) -> Float64Array:
    """Return the centres of ``count`` equal parts of a span, float64 [count], in seconds."""
    start, end = span
    return start + (np.arange(count) + 0.5) * (end - start) / count


class VisualExtractor:
    """Samples frames, embeds them with a network and measures motion, colour and light.

    Attributes:
        extractor: ``name@version``, see ``extractor_name``.
        dim: length of the embedding.
        blocks: the part of the embedding that each block fills, by its name.

    Example:
        >>> extractor = VisualExtractor(VisualConfig())
        >>> (features,) = extractor.extract(MediaFile(Path("clip.mp4")))
    """

    def __init__(self, config: VisualConfig) -> None:
        self.config = config
        self.extractor = extractor_name(config)
        self._encoder = FrameEncoder(config, ensure_encoder(config))
        # Fail now, not at every file, if the network does not fit its configuration.
        self._encoder(np.zeros((1, self._encoder.size, self._encoder.size, 3), np.uint8))
        self._scale_for_network = Scaler(self._encoder.size)
        self._scale_for_motion = Scaler(blocks.MOTION_SIZE)
        self.blocks = self._block_slices()
        self.dim = max(part.stop for part in self.blocks.values())

    def _block_slices(self) -> dict[str, slice]:
        name = self.config.encoder.name if self.config.encoder else "efficientnet"
        parts = {name: slice(0, self._encoder.dim)}
        at = self._encoder.dim
        for block in self.config.blocks:
            parts[block] = slice(at, at + blocks.DIMS[block])
            at += blocks.DIMS[block]
        return parts

    def extract(
        self, media: MediaFile, spans: Sequence[Span] | None = None
    ) -> list[VisualFeatures]:
        """Return the features of each span, or of the whole clip, from one decode.

        Args:
            media: the file.
            spans: seconds from the first frame; None is the whole clip.

        Raises:
            MediaError: the file or a span cannot be used.
            EncoderError: the network does not fit its configuration.
        """
        plans: list[_FramePlan] = []
        for_network: dict[int, UInt8Array] = {}
        for_motion: dict[int, UInt8Array] = {}

        def select_pts(timeline: Timeline) -> set[int]:
            plans[:] = self._plans(timeline, spans)
            return {pts for plan in plans for pts in plan.all_pts()}

        def on_frame(pts: int, frame: av.VideoFrame) -> None:
            if any(pts in plan.centres for plan in plans):
                for_network[pts] = self._scale_for_network(frame)
            for_motion[pts] = self._scale_for_motion(frame)

        sampled = sample_frames(media, select_pts, on_frame)
        return [self._features(sampled, plan, for_network, for_motion) for plan in plans]

    def _plans(self, timeline: Timeline, spans: Sequence[Span] | None) -> list[_FramePlan]:
        length = timeline.seconds
        for start, end in spans or ():
            if not 0 <= start < end or start >= length:
                raise MediaError(
                    Reason.BAD_SEGMENT,
                    f"segment {start:g} to {end:g} s of a video of {length:.3f} s",
                )
        whole = [(0.0, length)]
        return [self._plan(timeline, (a, min(b, length))) for a, b in (spans or whole)]

    def _plan(self, timeline: Timeline, span: Span) -> _FramePlan:
        start, end = span
        centres = segment_centres(span, self.config.frames)
        length = min(blocks.WINDOW_SECONDS, end - start)
        window_start = (start + end - length) / 2
        steps = max(1, int(length * blocks.WINDOW_RATE))
        window = window_start + np.arange(steps + 1) / blocks.WINDOW_RATE
        # The frame that appears exactly at the end belongs to the next segment.
        last = timeline.pts_before(end)

        def pts_at(times: Float64Array) -> list[int]:
            return [min(timeline.pts_at(t), last) for t in times]

        return _FramePlan(pts_at(centres), pts_at(centres + blocks.PAIR_SECONDS), pts_at(window))

    def _features(
        self,
        sampled: Sampled,
        plan: _FramePlan,
        for_network: dict[int, UInt8Array],
        for_motion: dict[int, UInt8Array],
    ) -> VisualFeatures:
        base, start = sampled.timeline.time_base, sampled.timeline.start_pts
        window = sorted(set(plan.window))
        frames = blocks.ClipFrames(
            centres=np.stack([for_network[pts] for pts in plan.centres]),
            pairs=[
                (for_motion[a], for_motion[b], (b - a) * base)
                for a, b in zip(plan.centres, plan.partners, strict=True)
            ],
            window=np.stack([for_motion[pts] for pts in window]),
            window_times=np.array([pts * base for pts in window]),
        )
        # A frame of a short clip can be the centre of several parts.
        unique = {pts: i for i, pts in enumerate(dict.fromkeys(plan.centres))}
        vectors = self._encoder(np.stack([for_network[pts] for pts in unique]))
        vectors = vectors[[unique[pts] for pts in plan.centres]]
        measured = blocks.measure(frames, self.config.blocks)
        return VisualFeatures(
            embedding=np.concatenate([vectors.mean(axis=0), measured]).astype(np.float32),
            frame_times=np.array([(pts - start) * base for pts in plan.centres]),
            frame_embeddings=vectors.astype(np.float16),
            decoder=sampled.decoder,
            origin=start * base,
        )
