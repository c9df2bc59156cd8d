"""Settings: a file, variables over it, nothing unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.settings import Candidate, GenreSettings, Settings, SettingsError, load_settings


def test_variable_wins_over_file_and_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "debcm.toml"
    file.write_text("seed = 1\n[landing]\nreject_share = 0.5\nwait_hours = 2\n")
    monkeypatch.setenv("DEBCM_LANDING__REJECT_SHARE", "0.75")
    settings = load_settings()
    assert settings.seed == 1
    assert settings.landing.reject_share == 0.75
    assert settings.landing.wait_hours == 2
    assert settings.extract.workers == Settings().extract.workers


def test_paths_start_at_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "night.toml"
    file.write_text('[lake]\nroot = "../lake"\n[landing]\nroot = "in"\n')
    monkeypatch.setenv("DEBCM_CONFIG", str(file))
    settings = load_settings()
    assert settings.lake.root == str(tmp_path / "lake")
    assert settings.landing.root == tmp_path / "etc" / "in"


def test_every_path_is_anchored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = f'{{name = "n", path = "n.onnx", sha256 = "{"0" * 64}", dim = 2}}'
    file = tmp_path / "debcm.toml"
    file.write_text(
        f'[release]\nlancedb = "lance"\n[visual]\nencoder = {encoder}\n'
        f"[candidates.new.audio]\nencoder = {encoder}\n"
    )
    monkeypatch.setenv("DEBCM_CONFIG", str(file))
    settings = load_settings()
    assert settings.release.lancedb == str(tmp_path / "lance")
    assert settings.visual.encoder is not None
    assert settings.visual.encoder.path == tmp_path / "n.onnx"
    audio = settings.candidates["new"].audio
    assert audio is not None
    assert audio.encoder is not None
    assert audio.encoder.path == tmp_path / "n.onnx"


def test_object_storage_root_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", "s3://bucket/lake")
    assert load_settings().lake.root == "s3://bucket/lake"


@pytest.mark.parametrize("by_option", [True, False])
def test_an_endpoint_without_tls_must_be_allowed(
    monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    plain = "http://10.0.0.7:9000"
    monkeypatch.setenv("DEBCM_LAKE__ROOT", "s3://bucket/lake")
    options = {"aws_endpoint_url": plain} if by_option else {}
    if not by_option:
        monkeypatch.setenv("AWS_ENDPOINT_URL", plain)
    monkeypatch.setenv("DEBCM_LAKE__STORAGE_OPTIONS", json.dumps(options))
    with pytest.raises(SettingsError, match=rf"lake: .*{plain} has no TLS.*aws_allow_http"):
        load_settings()
    monkeypatch.setenv(
        "DEBCM_LAKE__STORAGE_OPTIONS", json.dumps(options | {"aws_allow_http": "true"})
    )
    assert load_settings().lake.storage_options["aws_allow_http"] == "true"


def test_an_endpoint_without_tls_concerns_a_lake_in_object_storage_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.7:9000")
    load_settings()
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("DEBCM_LAKE__ROOT", "s3://bucket/lake")
    load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1", "sede"),
        ("[landing]\nreject_shar = 0.1", "landing.reject_shar"),
        ("[landing]\nreject_share = 7", "landing.reject_share"),
        ("[extract]\nworkers = 'two'", "extract.workers"),
        ("[lake.storage_options]\naws_endpoint = 'x'", "storage_options.*aws_endpoint: unknown"),
        ("[split]\nvalidation_share = 0.5\ntest_share = 0.5", "too little to train on"),
        ("seed =", "not valid TOML"),
    ],
)
def test_wrong_file_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "debcm.toml").write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings()
    assert "debcm.toml" in str(caught.value)


def test_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_LANDNIG__ROOT", "x")
    with pytest.raises(SettingsError, match="DEBCM_LANDNIG__ROOT"):
        load_settings()


def test_missing_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"nowhere.toml"):
        load_settings()


def test_genre_group_ignores_case_and_unknown_genres_are_other() -> None:
    genres = GenreSettings(groups={"rock": ["Metal"], "pop": ["pop"]})
    assert genres.group(" mETAL ") == "rock"
    assert genres.group("yodel") == "other"
    assert genres.names == ("rock", "pop", "other")


def test_genre_in_two_groups_is_an_error() -> None:
    with pytest.raises(ValueError, match="metal"):
        GenreSettings(groups={"a": ["metal"], "b": ["Metal"]})


def test_candidate_replaces_the_extractor_it_names_and_no_other() -> None:
    fewer = Settings().visual.model_copy(update={"frames": 4})
    settings = Settings(candidates={"fewer": Candidate(visual=fewer)})
    assert settings.with_extractor("fewer").visual.frames == 4
    assert settings.with_extractor("fewer").audio == settings.audio
    assert settings.with_extractor("current") is settings
    with pytest.raises(SettingsError, match="current, fewer"):
        settings.with_extractor("more")
