"""The examples that read a release give the tracks that `Release` gives."""

from __future__ import annotations

import re

import pytest

from pipeline.releases.serving import Release
from tests.helpers.examples import run_example
from tests.helpers.trained_lake import TrainedLake


def ranked(lines: list[str]) -> list[tuple[str, float]]:
    """Return (music_id, score) of each printed rank."""
    found = [re.fullmatch(r"\d+\. (\S+)  .* ([+-][\d.]+)", line) for line in lines]
    assert all(found), lines
    return [(match[1], float(match[2])) for match in found if match]


@pytest.mark.parametrize("name", ["recommend.py", "read_release.py"])
def test_a_release_gives_its_best_tracks(name: str, published: TrainedLake) -> None:
    root = published.settings.lake.root
    release = Release.open(root)
    head, *lines = run_example(name, root, "v0003", "--top", "3")
    assert head == f"release {release.release_id}"
    best = release.recommend_known("v0003", top=3)
    assert [music_id for music_id, _ in ranked(lines)] == [hit.music_id for hit in best]
    scores = [score for _, score in ranked(lines)]
    assert scores == pytest.approx([hit.score for hit in best], abs=1e-3)
