"""Paths of the settings become absolute; test_load.py has the paths that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.settings.load import Settings
from pipeline.settings.paths import PathError, is_url, with_absolute_paths
from pipeline.settings.sections import LakeSettings, LandingSettings


@pytest.mark.parametrize(
    ("path", "expected"),
    [("s3://b", True), (Path("gs://b/c"), True), ("a:b/c", False), ("/a/s3:/b", False)],
)
def test_a_url_is_recognised_as_text_and_as_path(path: str | Path, expected: bool) -> None:
    assert is_url(path) == expected


def test_the_home_folder_is_inserted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = with_absolute_paths(Settings(lake=LakeSettings(root="~/lake")), Path("/srv"))
    assert found.lake.root == str(tmp_path / "lake")
    assert found.landing.root == Path("/srv/landing")


def test_a_link_into_the_landing_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "landing")
    settings = Settings(
        lake=LakeSettings(root="link/lake"), landing=LandingSettings(root=Path("landing"))
    )
    with pytest.raises(PathError, match=r"landing\.root or inside it") as caught:
        with_absolute_paths(settings, tmp_path)
    assert caught.value.location == ("lake", "root")
