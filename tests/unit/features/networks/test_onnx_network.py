from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import (
    AudioConfig,
    AudioExtractor,
    ClipFeatures,
    EncoderError,
    Job,
    JobKind,
    Limits,
    MediaPool,
    PictureEncoder,
    SoundEncoder,
    VisualConfig,
    VisualExtractor,
    WorkerError,
    ensure_encoder,
)
from features.networks.onnx_network import FrameEncoder
from tests.helpers import small_networks as networks

Rendered = Callable[[str], Path]
SIZE = 32
PICTURES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def picture_encoder(path: Path, /, **changes: Any) -> PictureEncoder:
    values = {
        "name": "small",
        "path": path,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dim": 3,
        "size": SIZE,
        "mean": MEAN,
        "std": STD,
    }
    return PictureEncoder(**{**values, **changes})


def embed(encoder: PictureEncoder) -> np.ndarray:
    config = VisualConfig(encoder=encoder)
    times = encoder.size // SIZE
    pictures = PICTURES.repeat(times, axis=1).repeat(times, axis=2)
    return FrameEncoder(config, ensure_encoder(config))(pictures)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that returns the mean of each channel of its input."""
    path = tmp_path_factory.mktemp("networks") / "colours.onnx"
    return networks.mean_over(path, ["n", 3, SIZE, SIZE], [2, 3])


@pytest.fixture(scope="session")
def loudness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that returns the mean log-mel value of each band of a patch."""
    path = tmp_path_factory.mktemp("networks") / "loudness.onnx"
    return networks.mean_over(path, ["n", 1, 96, 64], [1, 2])


def sound_encoder(path: Path, **changes: Any) -> SoundEncoder:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return SoundEncoder(**{"name": "bands", "path": path, "sha256": sha256, "dim": 64} | changes)


def test_pictures_are_normalised_as_configured(colours: Path, tmp_path: Path) -> None:
    expected = (PICTURES.astype(float).mean(axis=(1, 2)) / 255 - MEAN) / np.array(STD)
    np.testing.assert_allclose(embed(picture_encoder(colours)), expected, atol=1e-5)
    last = networks.mean_over(tmp_path / "last.onnx", ["n", SIZE, SIZE, 3], [1, 2])
    np.testing.assert_allclose(embed(picture_encoder(last, layout="nhwc")), expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_maps_are_averaged_with_mean_pooling(layout: str, tmp_path: Path) -> None:
    shape = ["n", 3, SIZE, SIZE] if layout == "nchw" else ["n", SIZE, SIZE, 3]
    path = networks.identity(tmp_path / "maps.onnx", shape)
    expected = (PICTURES.astype(float).mean(axis=(1, 2)) / 255 - MEAN) / np.array(STD)
    encoder = picture_encoder(path, layout=layout, pooling="mean")
    np.testing.assert_allclose(embed(encoder), expected, atol=1e-5)


def test_a_network_unlike_its_configuration_is_an_error(colours: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.onnx"
    words.write_text("no network")
    maps = networks.identity(tmp_path / "maps.onnx", ["n", 3, SIZE, SIZE])
    endless = networks.mean_over(
        tmp_path / "endless.onnx", ["n", 3, SIZE, SIZE], [2, 3], float("inf")
    )
    cases = [
        (picture_encoder(colours, path=tmp_path / "none.onnx"), "none.onnx does not exist"),
        (picture_encoder(colours, sha256="0" * 64), "sha256 .* expected 0000"),
        (picture_encoder(colours, dim=2048), r"returns shape \(1, 3\), expected \(1, 2048"),
        (picture_encoder(colours, size=64), r"does not accept .* shape \(1, 3, 64, 64\)"),
        (
            picture_encoder(colours, layout="nhwc"),
            r"does not accept .* shape \(1, 32, 32, 3\)",
        ),
        (picture_encoder(colours, pooling="mean"), "needs four axes"),
        (picture_encoder(maps), r"returns shape \(1, 3, 32, 32\)"),
        (picture_encoder(words), "cannot be loaded"),
        (picture_encoder(endless), "not finite"),
    ]
    for encoder, message in cases:
        with pytest.raises(EncoderError, match=message):
            embed(encoder)


def test_a_configured_network_embeds_clips_in_workers(
    colours: Path, loudness: Path, rendered: Rendered
) -> None:
    visual = VisualConfig(frames=4, encoder=picture_encoder(colours), blocks=("light",))
    audio = AudioConfig(encoder=sound_encoder(loudness), blocks=("harmony", "network"))
    film = rendered("film.mp4")
    with MediaPool(1, Limits(), visual, audio) as pool:
        ((_, result),) = pool.run([Job("it", film, JobKind.SEGMENTS, segments=((0.0, 3.0),))])
    assert isinstance(result, ClipFeatures)
    assert result.visual[0].embedding.shape == (3 + 6,)
    assert result.visual[0].frame_embeddings.shape == (4, 3)
    assert result.audio[0].embedding.shape == (26 + 64,)
    assert VisualExtractor(visual).blocks == {"small": slice(0, 3), "light": slice(3, 9)}
    assert AudioExtractor(audio).blocks == {"harmony": slice(0, 26), "network": slice(26, 90)}
    means = np.asarray(result.visual[0].frame_embeddings, np.float32).mean(axis=0)
    np.testing.assert_allclose(result.visual[0].embedding[:3], means, atol=2e-3)


def test_a_pool_with_a_wrong_network_cannot_be_made(colours: Path, loudness: Path) -> None:
    bad_picture = VisualConfig(encoder=picture_encoder(colours, sha256="0" * 64))
    bad_sound = AudioConfig(encoder=sound_encoder(loudness, sha256="0" * 64))
    with pytest.raises(EncoderError, match="sha256"):
        MediaPool(1, Limits(), bad_picture, None)
    with pytest.raises(EncoderError, match="sha256"):
        MediaPool(1, Limits(), None, bad_sound)


def test_a_network_that_does_not_fit_ends_the_run_and_rejects_no_file(
    colours: Path, rendered: Rendered
) -> None:
    wrong = VisualConfig(encoder=picture_encoder(colours, dim=2048))
    with (
        MediaPool(1, Limits(), wrong, None) as pool,
        pytest.raises(WorkerError, match=r"returns shape \(1, 3\), expected \(1, 2048\)"),
    ):
        list(pool.run([Job("it", rendered("film.mp4"), JobKind.VIDEO)]))
