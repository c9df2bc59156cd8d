"""Progress of long work, in a log and in a terminal."""

from __future__ import annotations

import logging
import sys

import pytest

from features.workers import progress
from features.workers.progress import report_progress


def test_log_lines_have_count_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The clock at the start, and after each of four items.
    clock = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(report_progress("abcd", 4, "shard 3")) == list("abcd")
    assert caplog.messages == [
        "shard 3: 2 of 4, 0.1/s, 20 s left",
        "shard 3: 4 of 4, 0.1/s, 0 s left",
    ]


def test_a_terminal_has_a_bar_instead_of_log_lines(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        assert list(report_progress("abcd", 4, "shard 3")) == list("abcd")
    assert not caplog.messages
    assert "shard 3" in capsys.readouterr().err
