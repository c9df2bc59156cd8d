from __future__ import annotations

import pytest

from features.config import Limits
from features.container.budget import Budget
from features.errors import MediaError, Reason


def test_frames_bytes_and_pixels_are_limited() -> None:
    def reason(budget: Budget, times: int, **size: int) -> Reason | None:
        try:
            for _ in range(times):
                budget.add_frame(**size)
        except MediaError as error:
            return error.reason
        return None

    size = {"width": 10, "height": 10}
    assert reason(Budget(Limits(frames=3)), 3, **size) is None
    assert reason(Budget(Limits(frames=3)), 4, **size) is Reason.TOO_LONG
    assert reason(Budget(Limits(decoded_bytes=300)), 2, **size) is None
    assert reason(Budget(Limits(decoded_bytes=300)), 3, **size) is Reason.TOO_LARGE
    assert reason(Budget(Limits(pixels=100)), 1, **size) is None
    assert reason(Budget(Limits(pixels=99)), 1, **size) is Reason.TOO_MANY_PIXELS


def test_damage_is_allowed_up_to_a_share() -> None:
    budget = Budget(Limits(truncated_share=0.1), packets=20)
    budget.add_frame(1, 1, corrupt=True)
    budget.errors += 1
    budget.check_errors()
    budget.errors += 1
    with pytest.raises(MediaError, match="3 of 20 video packets") as caught:
        budget.check_errors()
    assert caught.value.reason is Reason.TRUNCATED


def test_decoded_audio_counts_as_bytes() -> None:
    budget = Budget(Limits(decoded_bytes=800))
    budget.add_samples(100, 2, 4)
    assert budget.bytes == 800
    with pytest.raises(MediaError, match=r"limits\.decoded_bytes") as caught:
        budget.add_samples(1, 1, 1)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("rate", [-1, 0, 999, 768_001, 1 << 40])
def test_a_sample_rate_that_no_audio_has_rejects_the_file(rate: int) -> None:
    with pytest.raises(MediaError, match=f"{rate} Hz") as caught:
        Budget(Limits()).check_sample_rate(rate)
    assert caught.value.reason is Reason.UNDECODABLE
    for allowed in (1000, 48_000, 768_000):
        Budget(Limits()).check_sample_rate(allowed)
