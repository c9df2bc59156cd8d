from __future__ import annotations

from pathlib import Path

from features import AudioConfig
from features.networks.export import check_network
from features.networks.packaged import LITE0_DIM, LITE0_SIZE, MUSICNN, lite0_encoder, sound_encoder


def test_musicnn_is_the_default_network_for_sound() -> None:
    assert sound_encoder(AudioConfig()) is MUSICNN
    assert sound_encoder(AudioConfig(blocks=("timbre",))) is None
    own = MUSICNN.model_copy(update={"name": "own"})
    assert sound_encoder(AudioConfig(encoder=own)) == own


def test_the_packaged_musicnn_file_has_the_expected_hash() -> None:
    assert check_network(MUSICNN) == MUSICNN.path


def test_lite0_takes_pixels_as_its_authors_scale_them() -> None:
    """They use (x - 127) / 128 for x from 0 to 255."""
    encoder = lite0_encoder(Path("lite0.onnx"))
    assert (encoder.size, encoder.dim) == (LITE0_SIZE, LITE0_DIM)
    assert [255 * mean for mean in encoder.mean] == [127, 127, 127]
    assert [255 * std for std in encoder.std] == [128, 128, 128]
