"""At which packets of a stream decoding may start, as if it had come from the first one."""

from __future__ import annotations

import av

from features.video import bitstream

# Codecs whose decoders tell of a frame whether it is a keyframe: what the container says of its
# packet is held against that. The others are decoded from the first packet on.
_TELLING = {
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


class CleanStarts:
    """Looks at the packets of a stream in turn.

    A start must be a keyframe by the container and need nothing of the packets before it:
    neither pictures nor parameters that were changed on the way.
    """

    def __init__(self, context: av.VideoCodecContext) -> None:
        self._codec = context.name
        self._extradata = bytes(context.extradata or b"")
        self._intra = context.codec.intra_only
        self._parameters: set[bytes] | None = None
        self._changed = False

    def __call__(self, packet: av.Packet[av.VideoStream]) -> bool:
        """Return whether decoding may start at the next packet of the stream."""
        if self._intra:
            return True
        self._watch(packet)
        if self._changed or not packet.is_keyframe:
            return False
        if self._codec == "h264":
            # Recovery points, where a picture only heals gradually, are marked alike.
            return bitstream.is_idr(bytes(packet), self._extradata)
        if packet.is_discard:
            # No frame comes of it that could tell.
            return False
        if self._codec in ("mpeg1video", "mpeg2video"):
            return bitstream.SEQUENCE_HEADER in bytes(packet)
        return self._codec in _TELLING

    def _watch(self, packet: av.Packet[av.VideoStream]) -> None:
        """Notice parameters other than those of the first packet."""
        if packet.has_sidedata("new_extradata"):
            found = bytes(packet.get_sidedata("new_extradata"))
            self._changed |= found != self._extradata
        if self._codec in bitstream.PARAMETERS:
            found_sets = set(bitstream.parameters(bytes(packet), self._extradata, self._codec))
            if self._parameters is None:
                self._parameters = found_sets
            self._changed |= not found_sets <= self._parameters
