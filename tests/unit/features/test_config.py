from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from features import AudioConfig, SoundEncoder, VisualConfig

ENCODER = SoundEncoder(name="own", path=Path("own.onnx"), sha256="0" * 64, dim=64)


def test_a_sound_network_needs_its_block() -> None:
    with pytest.raises(ValueError, match='"network" is not among its blocks'):
        AudioConfig(encoder=ENCODER, blocks=("timbre",))
    with pytest.raises(ValueError, match="at least 1 item"):
        AudioConfig(blocks=())


def test_a_block_is_named_once() -> None:
    with pytest.raises(ValueError, match="named twice: light"):
        VisualConfig(blocks=("light", "motion", "light"))
    with pytest.raises(ValueError, match="named twice: timbre"):
        AudioConfig(blocks=("timbre", "timbre"))


def test_windows_of_sound_leave_no_gap() -> None:
    with pytest.raises(ValueError, match="skipped"):
        AudioConfig(hop=2049, n_fft=2048)
    assert AudioConfig(hop=2048, n_fft=2048).hop == 2048


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fmax": 8001.0}, "fmin < fmax"),
        ({"fmin": 7500.0}, "fmin < fmax"),
        ({"hop": 401}, "hop <= window"),
        ({"window": 513}, "window <= n_fft"),
    ],
)
def test_bands_and_windows_of_a_sound_network_fit_its_sample_rate(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SoundEncoder(**ENCODER.model_dump() | changes)
