"""From a video file to the embedding of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from features.arrays import UInt8Array
from features.config import Limits, VisualConfig
from features.errors import MediaError, Reason
from features.networks.export import ensure_encoder
from features.networks.extractor_name import extractor_name
from features.networks.onnx_network import FrameEncoder
from features.results import VisualFeatures
from features.video import blocks
from features.video.sampling import Sampled, sample_frames
from features.video.scaling import Scaler
from features.video.timeline import Timeline

__all__ = ["VisualExtractor", "extractor_name"]

Span = tuple[float, float]


@dataclass(frozen=True)
class _Plan:
    """Presentation times (ticks) of the frames one span needs."""

    centres: list[int]
    partners: list[int]
    window: list[int]

    def all(self) -> set[int]:
        return {*self.centres, *self.partners, *self.window}


def segment_centres(span: Span, count: int) -> npt.NDArray[np.float64]:
    """Return the centres of ``count`` equal parts of a span, in seconds."""
    start, end = span
    return start + (np.arange(count) + 0.5) * (end - start) / count


class VisualExtractor:
    """Samples frames, embeds them and measures how they move.

    Attributes:
        extractor: ``name@version``, see ``extractor_name``.
        dim: length of the embedding.
        blocks: name of each part of the embedding and where it lies.
    """

    def __init__(self, config: VisualConfig, limits: Limits | None = None) -> None:
        self.config = config
        self.limits = limits or Limits()
        self.extractor = extractor_name(config)
        self._encoder = FrameEncoder(config, ensure_encoder(config))
        # A network that does not fit ends the run here, not file after file.
        self._encoder(np.zeros((1, self._encoder.size, self._encoder.size, 3), np.uint8))
        self._large = Scaler(self._encoder.size)
        self._small = Scaler(blocks.MOTION_SIZE)
        self.blocks = self._blocks()
        self.dim = max(part.stop for part in self.blocks.values())

    def _blocks(self) -> dict[str, slice]:
        name = self.config.encoder.name if self.config.encoder else "efficientnet"
        parts = {name: slice(0, self._encoder.dim)}
        at = self._encoder.dim
        for block in self.config.blocks:
            parts[block] = slice(at, at + blocks.DIMS[block])
            at += blocks.DIMS[block]
        return parts

    def extract(self, path: Path, spans: Sequence[Span] | None = None) -> list[VisualFeatures]:
        """Return the features of each span (seconds), or of the whole clip, by one decode.

        Raises:
            MediaError: the file or a span cannot be used.
            EncoderError: the network does not fit its configuration.
        """
        plans: list[_Plan] = []
        large: dict[int, UInt8Array] = {}
        small: dict[int, UInt8Array] = {}

        def choose(timeline: Timeline) -> set[int]:
            plans[:] = self._plans(timeline, spans)
            return {ticks for plan in plans for ticks in plan.all()}

        def receive(ticks: int, frame: av.VideoFrame) -> None:
            if any(ticks in plan.centres for plan in plans):
                large[ticks] = self._large(frame)
            small[ticks] = self._small(frame)

        sampled = sample_frames(path, choose, receive, self.limits)
        return [self._features(sampled, plan, large, small) for plan in plans]

    def _plans(self, timeline: Timeline, spans: Sequence[Span] | None) -> list[_Plan]:
        length = timeline.seconds
        for start, end in spans or ():
            if not 0 <= start < end or start >= length:
                raise MediaError(
                    Reason.BAD_SEGMENT,
                    f"segment {start:g} to {end:g} s of a picture of {length:.3f} s",
                )
        whole = [(0.0, length)]
        return [self._plan(timeline, (a, min(b, length))) for a, b in (spans or whole)]

    def _plan(self, timeline: Timeline, span: Span) -> _Plan:
        start, end = span
        seconds = segment_centres(span, self.config.frames)
        length = min(blocks.WINDOW_SECONDS, end - start)
        first = (start + end - length) / 2
        steps = max(1, int(length * blocks.WINDOW_RATE))
        grid = first + np.arange(steps + 1) / blocks.WINDOW_RATE
        # The frame that is shown at the very end belongs to what follows.
        last = timeline.shown_before(end)

        def shown(times: npt.NDArray[np.float64]) -> list[int]:
            return [min(timeline.shown_at(t), last) for t in times]

        return _Plan(shown(seconds), shown(seconds + blocks.PAIR_SECONDS), shown(grid))

    def _features(
        self,
        sampled: Sampled,
        plan: _Plan,
        large: dict[int, UInt8Array],
        small: dict[int, UInt8Array],
    ) -> VisualFeatures:
        base, start = sampled.timeline.time_base, sampled.timeline.start
        moments = blocks.Moments(
            centres=np.stack([large[t] for t in plan.centres]),
            pairs=[
                (small[a], small[b], (b - a) * base)
                for a, b in zip(plan.centres, plan.partners, strict=True)
            ],
            window=np.stack([small[t] for t in sorted(set(plan.window))]),
            window_times=np.array([t * base for t in sorted(set(plan.window))]),
        )
        unique = {t: i for i, t in enumerate(dict.fromkeys(plan.centres))}
        vectors = self._encoder(np.stack([large[t] for t in unique]))
        vectors = vectors[[unique[t] for t in plan.centres]]
        measured = blocks.measure(moments, self.config.blocks)
        return VisualFeatures(
            embedding=np.concatenate([vectors.mean(axis=0), measured]).astype(np.float32),
            frame_times=np.array([(t - start) * base for t in plan.centres]),
            frame_embeddings=vectors.astype(np.float16),
            decoder=sampled.decoder,
            origin=start * base,
        )
