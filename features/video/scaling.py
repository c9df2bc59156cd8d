"""Scales decoded frames to small upright RGB images."""

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

DisplayMatrix = tuple[int, int, int, int]

# Area averaging with full chroma: the only usual setting whose embeddings match those of
# frames in which every source pixel is averaged.
SCALING = "area+full_chroma_int+full_chroma_inp+accurate_rnd"
# From this size on, frames without a colour matrix are BT.709; swscale itself assumes BT.601.
# Shorter and longer side, not width and height: rotating a frame does not change its colours.
_HD_SHORT, _HD_LONG = 720, 1280
_BT709, _UNSPECIFIED = 1, 2
_NO_ROTATION: DisplayMatrix = (1, 0, 0, 1)


def set_default_colorspace(frame: av.VideoFrame) -> av.VideoFrame:
    """Set the colour matrix of an HD frame whose stream names none; return the frame.

    Source: ITU-R BT.709 (HDTV) and BT.601 (SDTV); players choose by size as well.
    """
    short, long = sorted((frame.width, frame.height))
    is_hd = short >= _HD_SHORT or long >= _HD_LONG
    if is_hd and frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
        frame.colorspace = _BT709
    return frame


class Scaler:
    """Scales frames to size x size RGB by area averaging and applies their rotation."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._key: tuple[object, ...] | None = None
        # Keep the whole graph: with only its source and sink, FFmpeg frees it and crashes.
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> UInt8Array:
        """Return the frame as a player shows it, uint8 [size, size, 3], RGB.

        The frame is not cropped; width and height are scaled independently.
        """
        set_default_colorspace(frame)
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or key != self._key:
            self._graph = self._build(frame)
            self._key = key
        self._graph.push(frame)
        scaled = self._graph.pull().to_ndarray()
        return apply_display_matrix(scaled, display_matrix(frame))

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


def display_matrix(frame: av.VideoFrame) -> DisplayMatrix:
    """Return the signs (a, b, c, d) of the display matrix; (1, 0, 0, 1) if there is none.

    Source: ISO/IEC 14496-12, 8.2.2 (matrix of the track header): the point (x, y) is shown
    at (a x + c y, b x + d y).
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(side_data, SideData):
        return _NO_ROTATION
    values = struct.unpack("<9i", bytes(side_data)[:36])
    a, b, c, d = (int(np.sign(round(values[i] / 65536))) for i in (0, 1, 3, 4))
    return (a, b, c, d) if abs(a * d - b * c) == 1 else _NO_ROTATION


def swaps_sides(matrix: DisplayMatrix) -> bool:
    """Return whether a display matrix rotates by a quarter turn, so that width is height."""
    return matrix[0] == 0


def apply_display_matrix(image: npt.NDArray[Any], matrix: DisplayMatrix) -> UInt8Array:
    """Rotate and mirror an image [H, W, 3] by quarter turns, as a display matrix says."""
    a, b, c, d = matrix
    if swaps_sides(matrix):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
