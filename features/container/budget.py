"""Counts what decoding produces and stops at the limits, whatever the headers declare."""

from __future__ import annotations

from dataclasses import dataclass

from features.config import Limits
from features.errors import MediaError, Reason

# Hz, from telephone codecs to the fastest converters.
_LOWEST_RATE, _HIGHEST_RATE = 1000, 768_000


@dataclass
class Budget:
    """What decoding one stream has produced so far.

    Attributes:
        limits: the limits of one file.
        packets: packets sent to the decoder.
        frames: decoded video frames.
        bytes: size of the decoded frames and samples.
        errors: packets that the decoder refused, and frames that it marked as corrupt.
    """

    limits: Limits
    packets: int = 0
    frames: int = 0
    bytes: int = 0
    errors: int = 0

    def check_frame_size(self, width: int, height: int) -> None:
        """Raise MediaError(too_many_pixels) if a frame is over the limit."""
        if width * height > self.limits.pixels:
            raise MediaError(
                Reason.TOO_MANY_PIXELS,
                f"a frame of {width} x {height} pixels; "
                f"{self.limits.pixels} are allowed (limits.pixels)",
            )

    def add_frame(self, width: int, height: int, bits: int = 12, *, corrupt: bool = False) -> None:
        """Count a decoded frame.

        Args:
            width: pixels.
            height: pixels.
            bits: bits per pixel; 12 is the usual 4:2:0 with 8 bits per sample.
            corrupt: the decoder marked the frame as damaged.

        Raises:
            MediaError: too_many_pixels, too_long or too_large.
        """
        self.check_frame_size(width, height)
        self.errors += corrupt
        self.frames += 1
        if self.frames > self.limits.frames:
            raise MediaError(Reason.TOO_LONG, f"over {self.limits.frames} frames (limits.frames)")
        self._add_bytes(width * height * bits // 8)

    def check_sample_rate(self, rate: int) -> None:
        """Raise MediaError(undecodable) for a sample rate (Hz) that no audio has.

        With a rate of a few hertz a small file would resample to hours; with a rate of
        gigahertz hours would resample to nothing.
        """
        if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
            raise MediaError(
                Reason.UNDECODABLE,
                f"a sample rate of {rate} Hz; audio has {_LOWEST_RATE} to {_HIGHEST_RATE} Hz",
            )

    def add_samples(self, samples: int, channels: int, width: int) -> None:
        """Count decoded audio: ``samples`` per channel, each of ``width`` bytes.

        Raises:
            MediaError: too_large.
        """
        self._add_bytes(samples * channels * width)

    def _add_bytes(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limits.decoded_bytes:
            raise MediaError(
                Reason.TOO_LARGE,
                f"over {self.limits.decoded_bytes} decoded bytes (limits.decoded_bytes)",
            )

    def check_errors(self) -> None:
        """Raise MediaError(truncated) if the share of damaged packets is over the limit."""
        allowed = self.limits.truncated_share
        if self.errors > allowed * self.packets:
            raise MediaError(
                Reason.TRUNCATED,
                f"{self.errors} of {self.packets} video packets are damaged; "
                f"a share of {allowed:g} is allowed (limits.truncated_share)",
            )
