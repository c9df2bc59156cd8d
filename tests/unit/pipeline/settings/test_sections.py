"""Checks of sections that concern several fields."""

from __future__ import annotations

import json

import pytest

from pipeline.settings.load import SettingsError, load_settings
from pipeline.settings.sections import ExtractSettings, GenreSettings


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


def test_an_endpoint_without_tls_does_not_matter_for_a_local_lake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.7:9000")
    load_settings()
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("DEBCM_LAKE__ROOT", "s3://bucket/lake")
    load_settings()


def test_a_genre_group_ignores_case_and_unknown_genres_are_other() -> None:
    genres = GenreSettings(groups={"rock": [" Metal "], "pop": ["pop"]})
    assert genres.group(" mETAL ") == "rock"
    assert genres.group("yodel") == "other"
    assert genres.names == ("rock", "pop", "other")


def test_a_genre_in_two_groups_is_an_error() -> None:
    with pytest.raises(ValueError, match="metal"):
        GenreSettings(groups={"a": ["metal"], "b": ["Metal"]})


def test_a_segment_can_be_as_short_as_the_shortest() -> None:
    ExtractSettings(segment_seconds=3, min_segment_seconds=3)
    with pytest.raises(ValueError, match="no segment would be valid"):
        ExtractSettings(segment_seconds=3, min_segment_seconds=3.1)
