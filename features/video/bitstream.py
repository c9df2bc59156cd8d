"""Splits H.264, HEVC and MPEG-4 packets into units, as far as choosing packets needs it.

Source: ITU-T H.264 7.3.1 and H.265 7.3.1.2 (NAL unit headers); ISO/IEC 14496-15 (length
prefixes instead of start codes, announced by a configuration record); ISO/IEC 13818-2 and
14496-2, 6.2 (start codes).
"""

from __future__ import annotations

from collections.abc import Iterator

H264_IDR = 5
HEVC_VCL = range(32)
# Start code of the MPEG-1 and MPEG-2 sequence header, which holds size and matrices.
SEQUENCE_HEADER = b"\0\0\1\xb3"
# Per codec: mask and right shift of the unit type in the first byte, and the types that hold
# parameters for other units (H.264 7.4.1, H.265 7.4.2, 14496-2 6.2.1: video object layers).
PARAMETER_UNITS = {
    "h264": (31, 0, frozenset({7, 8, 13, 15})),
    "hevc": (126, 1, frozenset({32, 33, 34})),
    "mpeg4": (255, 0, frozenset(range(0x20, 0x30))),
}


def units(packet: bytes, extradata: bytes | None, codec: str) -> Iterator[memoryview]:
    """Yield the units of a packet, each at least two bytes long.

    Args:
        packet: the packet's bytes.
        extradata: the stream's configuration record, or None.
        codec: ``h264``, ``hevc`` or ``mpeg4``.
    """
    view = memoryview(packet)
    width_at = {"h264": 4, "hevc": 21}.get(codec)
    if width_at and extradata and extradata[0] == 1 and len(extradata) > width_at:
        width = (extradata[width_at] & 3) + 1
        at = 0
        while at + width + 2 <= len(packet):
            length = int.from_bytes(packet[at : at + width], "big")
            yield view[at + width : at + width + max(length, 2)]
            at += width + length
        return
    at = packet.find(b"\0\0\1")
    while 0 <= at <= len(packet) - 5:
        following = packet.find(b"\0\0\1", at + 3)
        yield view[at + 3 : max(following, at + 5) if following >= 0 else len(packet)]
        at = following


def is_idr(packet: bytes, extradata: bytes | None) -> bool:
    """Return whether an H.264 packet holds an IDR frame: no later frame refers past it."""
    return any(unit[0] & 31 == H264_IDR for unit in units(packet, extradata, "h264"))


def temporal_layer(packet: bytes, extradata: bytes | None) -> int:
    """Return the temporal layer (0 is the base) of the first slice in an HEVC packet."""
    for unit in units(packet, extradata, "hevc"):
        if (unit[0] >> 1 & 63) in HEVC_VCL:
            return (unit[1] & 7) - 1
    return 0


def parameter_sets(packet: bytes, extradata: bytes | None, codec: str) -> Iterator[bytes]:
    """Yield the units of a packet that hold parameters for other units."""
    mask, shift, types = PARAMETER_UNITS[codec]
    for unit in units(packet, extradata, codec):
        if (unit[0] & mask) >> shift in types:
            # Zeros at the end belong to the next start code.
            yield bytes(unit).rstrip(b"\0")
