"""The plots of a report: equal input gives equal images, and no data gives no image."""

from __future__ import annotations

import base64
import datetime as dt

import pytest

from pipeline.reporting import plots
from pipeline.reporting.drift import Drift
from pipeline.reporting.facts import Day, Speed

DAY = dt.date(2026, 3, 3)
FIGURES = {
    "recall@10": 0.5,
    # The interval does not contain the value.
    "intervals": {"recall@10": [0.6, 0.7]},
    "genre_share": {"pop": 0.4, "rock": 0.6},
}
EPOCHS = [{"epoch": n, "losses": {"match": 1.0 / (n + 1)}, "validation": None} for n in range(3)]


def images() -> dict[str, str]:
    return {
        "intake": plots.intake([Day(DAY, 5, 3, {"empty": 2}, 3)]),
        "speed": plots.speed([Speed(DAY, 9, 2.5, 0.1)]),
        "drift": plots.drift([Drift("visual motion", 0.3, 0.01, 100, 900, {})]),
        "training": plots.training({"teacher": EPOCHS}),
        "contenders": plots.contenders({"challenger": FIGURES, "other": FIGURES}, 10),
        "genres": plots.genres({"challenger": FIGURES}, {"pop": 0.5, "rock": 0.5}),
    }


def test_equal_input_gives_equal_svg_images() -> None:
    first = images()
    assert first == images()
    for name, uri in first.items():
        head, _, data = uri.partition(",")
        assert head == "data:image/svg+xml;base64", name
        assert b"<svg" in base64.b64decode(data), name


def test_no_data_gives_no_image() -> None:
    assert plots.intake([]) == plots.speed([]) == plots.drift([]) == plots.training({}) == ""
    assert plots.contenders({}, 10) == plots.genres({}, {}) == ""


@pytest.mark.parametrize(
    ("value", "colour"), [(0.1, plots.BLUE), (0.25, plots.ORANGE), (0.4, plots.RED)]
)
def test_bars_are_coloured_by_the_drift_beyond_chance(value: float, colour: str) -> None:
    found = Drift("genres picked", value, 0.05, 100, 900, {})
    svg = base64.b64decode(plots.drift([found]).partition(",")[2]).decode()
    bar = f'style="fill: {colour}"'
    assert bar in svg
