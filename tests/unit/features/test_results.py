from __future__ import annotations

import numpy as np
import pytest

from features.results import (
    AudioFeatures,
    ClipFeatures,
    Decoder,
    MediaInfo,
    ResultError,
    VisualFeatures,
)

VISUAL = VisualFeatures(
    np.arange(5, dtype=np.float32),
    np.array([0.5, 1.5]),
    np.ones((2, 3), np.float16),
    Decoder.PYAV_FULL,
    -0.25,
)
AUDIO = AudioFeatures(
    np.arange(4, dtype=np.float32), np.ones((6, 2), np.float16), Decoder.SOUNDFILE
)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.zeros(3), "float32"),
        (np.zeros((3, 1), np.float32), "1 axes"),
        (np.array([np.inf], np.float32), "finite"),
    ],
)
def test_records_check_their_arrays(embedding: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioFeatures(embedding, AUDIO.mel, Decoder.PYAV)
    with pytest.raises(ValueError, match="2 frame_times for 3"):
        VisualFeatures(
            VISUAL.embedding, VISUAL.frame_times, np.ones((3, 3), np.float16), Decoder.PYAV, 0
        )
    assert repr(AUDIO) == "AudioFeatures(embedding=(4,), mel=(6, 2), decoder='soundfile')"
    assert "frame_embeddings=(2, 3)" in repr(VISUAL)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "much", 1 << 62])
def test_records_check_their_numbers(value: object) -> None:
    with pytest.raises(ResultError, match="cpu_seconds"):
        ClipFeatures((), (), value)  # type: ignore[arg-type]
    with pytest.raises(ResultError, match="duration"):
        MediaInfo("0" * 64, 9, value, (0.0, 1.5), 64, 48, 25.0, True, False, "mp4", "h264", "")  # type: ignore[arg-type]
