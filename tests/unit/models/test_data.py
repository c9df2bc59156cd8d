from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import Picks, TrainingData


def picks(rows: int = 3, groups: int = 2) -> dict[str, Any]:
    return {
        "video": np.zeros(rows, dtype=np.int64),
        "music": np.zeros(rows, dtype=np.int64),
        "uploader": np.zeros(rows, dtype=np.int64),
        "time": np.zeros(rows),
        "preference": np.full((rows, groups), 0.5, dtype=np.float32),
    }


def make() -> dict[str, Any]:
    return {
        "video": np.zeros((4, 3), dtype=np.float32),
        "music": np.zeros((5, 2), dtype=np.float32),
        "genre_group": np.zeros(5, dtype=np.int64),
        "n_groups": 2,
        "train": Picks(**picks()),
        "validation": Picks(**picks(0)),
        "segment_video": np.zeros((0, 3), dtype=np.float32),
        "segment_music": np.zeros((0, 2), dtype=np.float32),
        "population_preference": np.full(2, 0.5, dtype=np.float32),
    }


def test_valid_arrays_are_accepted_and_repr_shows_shapes() -> None:
    data = TrainingData(**make())
    assert repr(data) == "TrainingData(video[4, 3], music[5, 2], 3 + 0 picks, 0 segments)"
    assert repr(data.train) == "Picks(3 rows, 2 genre groups)"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("video", np.zeros((4, 3)), "TrainingData.video must be float32, got float64"),
        ("music", np.zeros(5, dtype=np.float32), "TrainingData.music must have shape"),
        ("genre_group", np.full(5, 2), r"genre_group\[0\] is 2: it must be in 0..1"),
        ("segment_music", np.zeros((1, 2), dtype=np.float32), "segment_music must have shape"),
        ("population_preference", np.array([1.0, 0.0], dtype=np.float32), "positive in every"),
        ("train", Picks(**picks(0)), "at least one track and one pick"),
        ("train", Picks(**picks(groups=3)), r"train.preference must have shape \('any', 2\)"),
    ],
)
def test_invalid_training_data_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        TrainingData(**make() | {name: value})


def outside(fields: dict[str, Any]) -> None:
    fields["music"][1] = 5


def negative(fields: dict[str, Any]) -> None:
    fields["video"][2] = -1


@pytest.mark.parametrize("change", [outside, negative])
def test_picks_of_rows_out_of_range_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    fields = picks()
    change(fields)
    with pytest.raises(ValueError, match=r"it must be in 0\.\."):
        TrainingData(**make() | {"train": Picks(**fields)})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("video", np.zeros(3, dtype=np.int32), "Picks.video must be int64"),
        ("time", np.zeros(2), "Picks.time must have shape"),
        ("time", np.array([0.0, np.nan, 0.0]), r"Picks.time\[1\] is nan: it must be finite"),
        ("uploader", np.full(3, -1), "Picks.uploader must be 0 or more"),
        ("preference", np.full((3, 2), np.nan, dtype=np.float32), "must be finite"),
    ],
)
def test_invalid_picks_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Picks(**picks() | {name: value})


def test_the_digest_depends_on_every_array() -> None:
    first = TrainingData(**make())
    assert first.digest() == TrainingData(**make()).digest()
    seen = {first.digest()}
    for name in ("video", "music", "genre_group", "population_preference"):
        changed = make()
        changed[name] = changed[name] + changed[name].dtype.type(1)
        if name == "genre_group":
            changed["n_groups"] = 2
        seen.add(TrainingData(**changed).digest())
    for field in dataclasses.fields(Picks):
        fields = picks()
        fields[field.name] = fields[field.name] + fields[field.name].dtype.type(1)
        seen.add(TrainingData(**make() | {"train": Picks(**fields)}).digest())
    assert len(seen) == 1 + 4 + 5
