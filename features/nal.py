"""Headers of the network abstraction layer in H.264 and HEVC packets.

Source: ITU-T H.264 7.3.1 and H.265 7.3.1.2 (unit headers); ISO/IEC 14496-15 (packets
with lengths in place of start codes, announced by a configuration record).
"""

from __future__ import annotations

from collections.abc import Iterator

H264_IDR = 5
HEVC_VCL = range(32)


def headers(packet: bytes, extradata: bytes | None, *, hevc: bool) -> Iterator[tuple[int, int]]:
    """Yield the first two bytes of each unit in a packet.

    Args:
        packet: the packet's bytes.
        extradata: the stream's configuration record, or None.
        hevc: which record it is.
    """
    if extradata and extradata[0] == 1 and len(extradata) > (21 if hevc else 4):
        width = (extradata[21 if hevc else 4] & 3) + 1
        at = 0
        while at + width + 2 <= len(packet):
            length = int.from_bytes(packet[at : at + width], "big")
            yield packet[at + width], packet[at + width + 1]
            at += width + length
        return
    at = packet.find(b"\0\0\1")
    while 0 <= at <= len(packet) - 5:
        yield packet[at + 3], packet[at + 4]
        at = packet.find(b"\0\0\1", at + 3)


def is_idr(packet: bytes, extradata: bytes | None) -> bool:
    """Return whether an H.264 packet holds a picture that no earlier one can reach past."""
    return any(first & 31 == H264_IDR for first, _ in headers(packet, extradata, hevc=False))


def temporal_layer(packet: bytes, extradata: bytes | None) -> int:
    """Return the temporal layer (0 is the base) of an HEVC packet's first picture unit."""
    for first, second in headers(packet, extradata, hevc=True):
        if (first >> 1 & 63) in HEVC_VCL:
            return (second & 7) - 1
    return 0
