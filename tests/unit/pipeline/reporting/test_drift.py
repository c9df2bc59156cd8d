"""Population stability index: against a slow plain twin, and figures worked out by hand."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.extraction.clips import Modality, extractors
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.reporting import drift
from pipeline.reporting.drift import BINS, feature_drift, psi, psi_terms
from pipeline.settings.load import Settings


def plain_psi(reference: np.ndarray, new: np.ndarray) -> float:
    """One column, value by value."""
    edges = sorted({float(np.quantile(reference, i / BINS)) for i in range(1, BINS)})

    def shares(rows: np.ndarray) -> list[float]:
        counts = [0.5] * (len(edges) + 1)
        for value in rows:
            counts[sum(value > edge for edge in edges)] += 1
        return [count / sum(counts) for count in counts]

    return sum(
        (p - q) * math.log(p / q) for p, q in zip(shares(new), shares(reference), strict=True)
    )


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
def test_psi_is_its_plain_twin(shift: float) -> None:
    rng = np.random.default_rng(0)
    reference, new = rng.normal(size=(400, 3)), rng.normal(size=(90, 3)) + shift
    reference[:, 2], new[:, 2] = np.round(reference[:, 2]), np.round(new[:, 2])
    found = psi(reference, new)
    assert found == pytest.approx([plain_psi(reference[:, i], new[:, i]) for i in range(3)])


def test_terms_by_hand() -> None:
    # With half a pseudo-count: q = (3.5, 1.5) / 5, p = (1.5, 3.5) / 5.
    terms = psi_terms(np.array([3, 1]), np.array([1, 3]))
    assert terms == pytest.approx([-0.4 * math.log(3 / 7), 0.4 * math.log(7 / 3)])


def test_equal_samples_do_not_drift_and_a_constant_column_is_no_error() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 2))
    rows[:, 1] = 7.0
    assert psi(rows, rows) == pytest.approx([0.0, 0.0])


def test_two_samples_of_one_population_drift_as_chance_says() -> None:
    rng = np.random.default_rng(2)
    reference, new = rng.normal(size=(2000, 300)), rng.normal(size=(500, 300))
    by_chance = (BINS - 1) * (1 / 2000 + 1 / 500)
    assert psi(reference, new).mean() == pytest.approx(by_chance, rel=0.1)


DAY = dt.date(2026, 3, 1)


def add_audio_features(settings: Settings, lake: Lake, day: dt.date, embedding: np.ndarray) -> None:
    """Write embeddings of whole clips, and of a segment that no drift counts."""
    names = [f"{day}-{number}" for number in range(len(embedding))]
    rows = [
        {"content_hash": name, "segment": -1, "embedding": values.tolist()}
        for name, values in zip(names, embedding, strict=True)
    ]
    rows.append({"content_hash": "pgc", "segment": 0, "embedding": (embedding[0] + 9).tolist()})
    base = {"dt": day, "extractor": extractors(settings)[Modality.AUDIO], "decoder": "x"}
    lake.add("audio_features", TABLES["audio_features"].frame([base | row for row in rows]))


@pytest.mark.parametrize("most_rows", [10_000, 40])
def test_drift_of_features_reads_the_vectors_of_the_chosen_rows_only(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch, most_rows: int
) -> None:
    rng = np.random.default_rng(3)
    width = max(part.stop for part in drift._blocks(settings, Modality.AUDIO).values())
    reference, new = rng.normal(size=(120, width)), rng.normal(size=(60, width)) + 0.5
    for number in range(3):
        before = DAY - dt.timedelta(days=number + 1)
        add_audio_features(settings, lake, before, reference[number * 40 : (number + 1) * 40])
    add_audio_features(settings, lake, DAY - dt.timedelta(days=29), reference[:40] + 50)
    add_audio_features(settings, lake, DAY, new)
    monkeypatch.setattr(drift, "MOST_ROWS", most_rows)
    read_whole: list[str] = []
    collect, slices = Lake.collect, Lake.slices

    def spy(self: Lake, scan: pl.LazyFrame, table: str) -> pl.DataFrame:
        found = collect(self, scan, table)
        read_whole.extend(found.columns)
        return found

    def five_at_a_time(self: Lake, *arguments: Any) -> Iterator[pl.DataFrame]:
        for part in slices(self, *arguments):
            yield from part.iter_slices(5)

    monkeypatch.setattr(Lake, "collect", spy)
    monkeypatch.setattr(Lake, "slices", five_at_a_time)
    found = feature_drift(settings, lake, DAY)
    assert "embedding" not in read_whole
    rows = min(60, most_rows), min(120, most_rows)
    assert {(each.rows, each.reference_rows) for each in found} == {rows}
    if most_rows == 10_000:
        expected = psi(reference.astype(np.float32).astype(float), new.astype(np.float32))
        for each in found:
            block = each.name.removeprefix("audio ")
            part = drift._blocks(settings, Modality.AUDIO)[block]
            assert each.value == pytest.approx(expected[part].mean())
    else:
        assert all(each.value > 0.25 for each in found)
