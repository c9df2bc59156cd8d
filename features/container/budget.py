"""Counting what decoding really produces, whatever a header claims."""

from __future__ import annotations

from dataclasses import dataclass

from features.config import Limits
from features.errors import MediaError, Reason

# Hz: from telephones of old to the fastest converters.
_RATES = (1000, 768_000)


@dataclass
class Budget:
    """What decoding one stream has produced so far.

    Attributes:
        limits: the limits of one file.
        packets: packets given to the decoder.
        frames: frames that came out.
        bytes: size of what came out, frames and samples.
        errors: packets refused by the decoder, and frames it marked as damaged.
    """

    limits: Limits
    packets: int = 0
    frames: int = 0
    bytes: int = 0
    errors: int = 0

    def check_size(self, width: int, height: int) -> None:
        """Raise MediaError(too_many_pixels) for a frame over the limit."""
        if width * height > self.limits.pixels:
            raise MediaError(
                Reason.TOO_MANY_PIXELS,
                f"a frame of {width} x {height}, "
                f"{self.limits.pixels} pixels are allowed (limits.pixels)",
            )

    def count(self, width: int, height: int, bits: int = 12, *, corrupt: bool = False) -> None:
        """Add a decoded frame; ``bits`` a pixel are 12 for most films (4:2:0).

        Raises:
            MediaError: too_many_pixels, too_long or too_large.
        """
        self.check_size(width, height)
        self.errors += corrupt
        self.frames += 1
        if self.frames > self.limits.frames:
            raise MediaError(Reason.TOO_LONG, f"over {self.limits.frames} frames (limits.frames)")
        self._count_bytes(width * height * bits // 8)

    def check_rate(self, rate: int) -> None:
        """Raise MediaError(undecodable) for a sample rate that no sound has.

        A rate of a few hertz would turn a small file into hours, one of gigahertz hours into
        nothing.
        """
        if not _RATES[0] <= rate <= _RATES[1]:
            raise MediaError(
                Reason.UNDECODABLE,
                f"a sample rate of {rate} Hz; sound has {_RATES[0]} to {_RATES[1]}",
            )

    def count_sound(self, samples: int, channels: int, width: int) -> None:
        """Add decoded samples of ``width`` bytes each.

        Raises:
            MediaError: too_large.
        """
        self._count_bytes(samples * channels * width)

    def _count_bytes(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limits.decoded_bytes:
            raise MediaError(
                Reason.TOO_LARGE,
                f"over {self.limits.decoded_bytes} decoded bytes (limits.decoded_bytes)",
            )

    def check_errors(self, what: str) -> None:
        """Raise MediaError(truncated) when more packets are broken than allowed."""
        if self.errors > self.limits.truncated_share * self.packets:
            raise MediaError(
                Reason.TRUNCATED,
                f"{self.errors} of {self.packets} packets of the {what} are broken, "
                f"a share of {self.limits.truncated_share:g} is allowed (limits.truncated_share)",
            )
