from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch

from models import Model, ModelConfig, TrainingData, fit
from models.config import VariantName

VARIANTS = get_args(VariantName)


@pytest.fixture(scope="module", params=VARIANTS)
def model(request: pytest.FixtureRequest, training: TrainingData) -> Model:
    config = ModelConfig.preset(request.param, epochs=2, teacher_epochs=2, batch_size=128, dim=16)
    return fit(training, config)


def test_the_score_is_the_dot_product(model: Model, training: TrainingData) -> None:
    videos = model.embed_videos(training.video[:50])
    tracks = model.embed_music(training.music, training.genre_group)
    assert videos.dtype == tracks.dtype == np.float32
    assert videos.shape[1] == tracks.shape[1]
    indices, scores = model.rank(training.video[:50], training.music, training.genre_group, 7)
    product = videos @ tracks.T
    for row in range(50):
        best = sorted(range(len(tracks)), key=lambda track: (-product[row, track], track))[:7]
        assert indices[row].tolist() == best
        assert scores[row].tolist() == product[row, best].tolist()


def test_unadjusted_scores_differ(model: Model, training: TrainingData) -> None:
    adjusted = model.embed_music(training.music, training.genre_group)
    plain = model.embed_music(training.music, training.genre_group, adjusted=False)
    assert adjusted.shape == plain.shape
    assert not np.allclose(adjusted, plain)


def test_a_saved_model_is_loaded_equal_and_saved_with_equal_bytes(
    model: Model, training: TrainingData, tmp_path: Path
) -> None:
    model.save(tmp_path / "a")
    loaded = Model.load(tmp_path / "a")
    assert loaded.config == model.config
    tracks = model.embed_music(training.music, training.genre_group)
    assert (loaded.embed_music(training.music, training.genre_group) == tracks).all()
    assert (loaded.embed_videos(training.video) == model.embed_videos(training.video)).all()
    loaded.save(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["model.json", "weights.safetensors"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_weights_of_another_shape_are_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"n_groups": 6', '"n_groups": 5'))
    with pytest.raises(ValueError, match=r"does not match model\.json"):
        Model.load(tmp_path)


def test_a_model_saved_by_an_earlier_version_is_loaded(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    del described["teaching"], described["share"]
    described["config"]["candidates"] = 8192
    (tmp_path / "model.json").write_text(json.dumps(described))
    loaded = Model.load(tmp_path)
    assert loaded.config == model.config
    assert (loaded.student_share, loaded.teacher_weight) == (1.0, 1.0)


def test_an_unknown_format_is_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(ValueError, match="has format 9"):
        Model.load(tmp_path)


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.onnx")
def test_both_towers_export_to_onnx(model: Model, training: TrainingData, tmp_path: Path) -> None:
    video, music = torch.from_numpy(training.video), torch.from_numpy(training.music)
    group = torch.from_numpy(training.genre_group)
    export = {"dynamo": False, "opset_version": 17, "output_names": ["embedding"]}
    torch.onnx.export(
        model.video_tower,
        (video[:3],),
        str(tmp_path / "video.onnx"),
        input_names=["features"],
        dynamic_axes={"features": {0: "n"}, "embedding": {0: "n"}},
        **export,
    )
    torch.onnx.export(
        model.music_tower,
        (music[:3], group[:3]),
        str(tmp_path / "music.onnx"),
        input_names=["features", "genre_group"],
        dynamic_axes={"features": {0: "n"}, "genre_group": {0: "n"}, "embedding": {0: "n"}},
        **export,
    )
    holey = training.video.copy()
    holey[0, 0] = np.nan
    session = onnxruntime.InferenceSession(tmp_path / "video.onnx")
    got = session.run(None, {"features": holey})[0]
    np.testing.assert_allclose(got, model.embed_videos(holey), atol=1e-4)
    session = onnxruntime.InferenceSession(tmp_path / "music.onnx")
    inputs = {"features": training.music, "genre_group": training.genre_group}
    expected = model.embed_music(training.music, training.genre_group)
    np.testing.assert_allclose(session.run(None, inputs)[0], expected, atol=1e-4)


def test_wrong_columns_and_groups_are_refused(model: Model, training: TrainingData) -> None:
    with pytest.raises(ValueError, match=r"shape \(n, 32\)"):
        model.embed_videos(training.video[:, :5])
    with pytest.raises(ValueError, match="90 tracks but 3"):
        model.embed_music(training.music, training.genre_group[:3])
    with pytest.raises(ValueError, match=r"0\.\.5"):
        model.embed_music(training.music, training.genre_group + 6)


def test_no_rows_give_no_embeddings(model: Model, training: TrainingData) -> None:
    assert model.embed_videos(training.video[:0]).shape[0] == 0


def test_share_and_teacher_weight_are_saved_under_the_names_of_the_format(
    model: Model, tmp_path: Path
) -> None:
    dataclasses.replace(model, student_share=0.75, teacher_weight=0.25).save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    assert (described["share"], described["teaching"]) == (0.75, 0.25)
    loaded = Model.load(tmp_path)
    assert (loaded.student_share, loaded.teacher_weight) == (0.75, 0.25)
