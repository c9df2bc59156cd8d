"""From a decoded frame to a small upright RGB picture."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideData

from features.arrays import UInt8Array

# Area averaging with full chroma: of the usual ways it alone leaves embeddings where
# averaging every source pixel puts them.
SCALING = "area+full_chroma_int+full_chroma_inp+accurate_rnd"


# Where nothing is said, pictures of high definition are BT.709 and smaller ones BT.601, which
# swscale takes by itself. Sides, not width and height: a turned picture keeps its colours.
_HD_SHORT, _HD_LONG = 720, 1280
_BT709, _UNSPECIFIED = 1, 2


def tell_colours(frame: av.VideoFrame) -> av.VideoFrame:
    """Name the matrix of a frame whose stream does not, and return the frame.

    Source: ITU-R BT.709 (HDTV) and BT.601 (SDTV); players choose by size as well.
    """
    short, long = sorted((frame.width, frame.height))
    large = short >= _HD_SHORT or long >= _HD_LONG
    if large and frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
        frame.colorspace = _BT709
    return frame


class Scaler:
    """Scales frames to size x size RGB by area averaging and turns them upright."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._key: tuple[object, ...] | None = None
        # Holding only the ends of a graph lets it be freed under them, and crashes.
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> UInt8Array:
        """Return uint8 [size, size, 3], RGB, as it would be shown.

        The whole picture is kept; its sides are scaled each on its own.
        """
        tell_colours(frame)
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or key != self._key:
            self._graph = self._build(frame)
            self._key = key
        self._graph.push(frame)
        scaled = self._graph.pull().to_ndarray()
        return upright(scaled, display_matrix(frame))

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=Fraction(1, 1000),
        )
        scale = graph.add("scale", f"{self.size}:{self.size}:flags={SCALING}")
        rgb = graph.add("format", "rgb24")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(rgb)
        rgb.link_to(sink)
        graph.configure()
        return graph


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return the signs (a, b, c, d) of the display matrix; (1, 0, 0, 1) when there is none.

    Source: ISO/IEC 14496-12, 8.2.2 (matrix of the track header): a shown point is
    (a x + c y, b x + d y).
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(side, SideData):
        return (1, 0, 0, 1)
    values = struct.unpack("<9i", bytes(side)[:36])
    a, b, c, d = (int(np.sign(round(values[i] / 65536))) for i in (0, 1, 3, 4))
    return (a, b, c, d) if abs(a * d - b * c) == 1 else (1, 0, 0, 1)


def upright(picture: npt.NDArray[Any], matrix: tuple[int, int, int, int]) -> UInt8Array:
    """Apply a display matrix of quarter turns and mirrors to [H, W, 3]."""
    a, b, c, d = matrix
    if a == 0:
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
