"""Finds the packets at which decoding can start with the same result as from the first one."""

from __future__ import annotations

import av

from features.video import bitstream

# Codecs whose decoders mark keyframes in the decoded frames, so that the container's keyframe
# flags can be verified. Streams of other codecs are decoded from the first packet on.
_MARKS_KEYFRAMES = {
    "flv",
    "h263",
    "hevc",
    "libdav1d",
    "mpeg4",
    "msmpeg4",
    "msmpeg4v2",
    "theora",
    "vp8",
    "vp9",
    "wmv1",
    "wmv2",
}


class RandomAccessDetector:
    """Finds random access points among the packets of a stream, given one after the other.

    A random access point is a keyframe according to the container and needs nothing from
    earlier packets: neither reference frames nor parameters that changed since the first packet.
    """

    def __init__(self, context: av.VideoCodecContext) -> None:
        self._codec = context.name
        self._extradata = bytes(context.extradata or b"")
        self._intra_only = context.codec.intra_only
        self._parameter_sets: set[bytes] | None = None
        self._parameters_changed = False

    def __call__(self, packet: av.Packet[av.VideoStream]) -> bool:
        """Return whether decoding can start at this packet, the next of the stream."""
        if self._intra_only:
            return True
        self._track_parameters(packet)
        if self._parameters_changed or not packet.is_keyframe:
            return False
        if self._codec == "h264":
            # The container also flags recovery points, where the frame is only rebuilt
            # gradually.
            return bitstream.is_idr(bytes(packet), self._extradata)
        if packet.is_discard:
            # No frame comes out of it that could confirm the flag.
            return False
        if self._codec in ("mpeg1video", "mpeg2video"):
            return bitstream.SEQUENCE_HEADER in bytes(packet)
        return self._codec in _MARKS_KEYFRAMES

    def _track_parameters(self, packet: av.Packet[av.VideoStream]) -> None:
        """Remember whether a packet has parameters that the first one does not have."""
        if packet.has_sidedata("new_extradata"):
            extradata = bytes(packet.get_sidedata("new_extradata"))
            self._parameters_changed |= extradata != self._extradata
        if self._codec in bitstream.PARAMETER_UNITS:
            found = set(bitstream.parameter_sets(bytes(packet), self._extradata, self._codec))
            if self._parameter_sets is None:
                self._parameter_sets = found
            self._parameters_changed |= not found <= self._parameter_sets
