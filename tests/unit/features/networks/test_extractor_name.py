from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from features import AudioConfig, PictureEncoder, SoundEncoder, VisualConfig
from features.networks import extractor_name as naming
from features.networks.extractor_name import extractor_name

PICTURE: dict[str, Any] = {"name": "resnet50", "path": "a.onnx", "sha256": "0" * 64, "dim": 2048}
SOUND: dict[str, Any] = {"name": "vggish", "path": "a.onnx", "sha256": "0" * 64, "dim": 128}


def test_the_name_contains_the_network_and_the_version_covers_the_rest() -> None:
    assert extractor_name(VisualConfig()).startswith("efficientnet-lite0-16f@")
    assert extractor_name(AudioConfig()).startswith("musicnn-sound@")
    assert extractor_name(AudioConfig(blocks=("timbre",))).startswith("sound@")
    resnet = VisualConfig(frames=8, encoder=PictureEncoder(**PICTURE))
    assert extractor_name(resnet).startswith("resnet50-8f@")
    assert extractor_name(AudioConfig(encoder=SoundEncoder(**SOUND))).startswith("vggish-sound@")
    _, digest = extractor_name(VisualConfig()).split("@")
    assert len(digest) == 12
    assert extractor_name(VisualConfig()) == extractor_name(VisualConfig())


def test_every_setting_except_the_path_changes_the_name() -> None:
    changes: dict[str, Any] = {
        "name": "other", "sha256": "1" * 64, "dim": 7, "size": 64, "mean": (0.1, 0.1, 0.1),
        "std": (0.1, 0.1, 0.1), "layout": "nhwc", "pooling": "mean", "sample_rate": 24_000,
        "window": 200, "n_fft": 1024, "hop": 80, "n_mels": 32, "fmin": 1.0, "fmax": 900.0,
        "log_offset": 0.1, "frames": 7, "channel_axis": False, "blocks": ("harmony",),
        "max_seconds": 9.0, "patches": 3, "mel": "slaney", "power": 2,
        "log_scale": 2.0, "masked": True,
    }  # fmt: skip

    visual = [VisualConfig(), VisualConfig(frames=7), VisualConfig(blocks=())]
    visual += [VisualConfig(encoder=PictureEncoder(**PICTURE))]
    visual += [
        VisualConfig(encoder=PictureEncoder(**PICTURE | {field: changes[field]}))
        for field in PictureEncoder.model_fields
        if field != "path"
    ]
    audio = [AudioConfig()]
    audio += [
        AudioConfig(**{field: changes[field]})
        for field in AudioConfig.model_fields
        if field != "encoder"
    ]
    audio += [AudioConfig(encoder=SoundEncoder(**SOUND))]
    audio += [
        AudioConfig(encoder=SoundEncoder(**SOUND | {field: changes[field]}))
        for field in SoundEncoder.model_fields
        if field != "path"
    ]
    names = [extractor_name(config) for config in (*visual, *audio)]
    assert len(set(names)) == len(names)
    moved = VisualConfig(encoder=PictureEncoder(**PICTURE | {"path": Path("/elsewhere/b.onnx")}))
    assert extractor_name(moved) == extractor_name(visual[3])


@pytest.mark.parametrize(
    ("package", "visual", "audio"),
    [
        ("av", True, True),
        ("onnxruntime", True, True),
        ("opencv-python-headless", True, False),
        ("librosa", False, True),
        ("soxr", False, True),
    ],
)
def test_a_new_major_version_of_a_library_changes_the_name(
    package: str, visual: bool, audio: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = naming.version

    def names(found: str) -> list[str]:
        monkeypatch.setattr(naming, "version", lambda p: found if p == package else real(p))
        return [extractor_name(VisualConfig()), extractor_name(AudioConfig())]

    one, patch, two = names("7.1.0"), names("7.2.3"), names("8.0.0")
    assert one == patch
    assert [a != b for a, b in zip(one, two, strict=True)] == [visual, audio]
    # Below 1.0 a minor version may change the features.
    assert [a != b for a, b in zip(names("0.7.0"), names("0.8.0"), strict=True)] == [visual, audio]


@pytest.mark.parametrize(("constant", "place"), [("VISUAL_CODE", 0), ("AUDIO_CODE", 1)])
def test_a_new_code_version_changes_the_name(
    constant: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [extractor_name(VisualConfig()), extractor_name(AudioConfig())]
    monkeypatch.setattr(naming, constant, 999)
    after = [extractor_name(VisualConfig()), extractor_name(AudioConfig())]
    assert [a != b for a, b in zip(before, after, strict=True)] == [place == 0, place == 1]
