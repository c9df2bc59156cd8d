from __future__ import annotations

import pytest

from features.errors import MediaError, Reason


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_happened_and_what_to_do(reason: Reason) -> None:
    for text in (reason.meaning, reason.remedy):
        assert text[0].isupper()
        assert text.endswith(".")


def test_only_reasons_that_the_machine_can_cause_are_transient() -> None:
    assert {reason.value for reason in Reason if reason.is_transient} == {
        "unreadable",
        "crashed",
        "timed_out",
        "out_of_memory",
    }


def test_a_media_error_prints_its_code_and_its_detail() -> None:
    error = MediaError(Reason.TOO_LONG, "1300 s, 1200 s are allowed (limits.seconds)")
    assert str(error) == "too_long: 1300 s, 1200 s are allowed (limits.seconds)"
    assert error.reason is Reason.TOO_LONG
