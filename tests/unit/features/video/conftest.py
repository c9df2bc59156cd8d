from __future__ import annotations

import pytest

from features.errors import MediaError, Reason
from features.video import sampling


@pytest.fixture
def _pyav_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make PyAV reject every file, so that OpenCV decodes it."""

    def refuse(*_: object) -> sampling.Sampled:
        raise MediaError(Reason.UNDECODABLE, "no decoder")

    monkeypatch.setattr(sampling, "_sample_pyav", refuse)
