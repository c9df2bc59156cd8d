"""An extractor's name guarantees its values, even after a library upgrade."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.features.networks.golden_values import CLIPS, FOLDER, TRACKS, VALUES, measure

# Largest cosine distance; across machines, values differ in the last bits.
DRIFT = 1e-4


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    return dict(measure())


def test_features_stay_the_same_under_the_same_extractor_name(
    values: dict[str, np.ndarray],
) -> None:
    with np.load(VALUES) as golden:
        assert set(values) == set(golden.files)
        drift = {}
        for name, found in values.items():
            kept = golden[name].astype(np.float64)
            assert found.shape == kept.shape, name
            lengths = np.linalg.norm(found) * np.linalg.norm(kept)
            distance = 1 - found @ kept / lengths if lengths > 0 else np.abs(found - kept).max()
            if distance > DRIFT:
                drift[name] = float(distance)
    assert not drift


def test_the_golden_files_are_complete_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(sizes) == {kind.name for kind in CLIPS} | set(TRACKS) | {VALUES.name}
    assert max(size for name, size in sizes.items() if name != VALUES.name) < 20_000
