"""The simulated world: each strength can be varied on its own."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.world import World, WorldConfig, make_world

SMALL = {"n_videos": 50, "n_music": 40, "n_uploaders": 5, "n_pgc": 100, "knowledge": 0.2}


def mean_match(world: World) -> float:
    """Return the mean cosine of the pictures and the sound of a segment."""
    cosine = (world.segment_video_latent * world.segment_music_latent).sum(axis=1)
    return float(cosine.mean())


def test_random_shots_do_not_match_the_sound() -> None:
    matched, half, random = (
        make_world(WorldConfig(**SMALL, pgc_at_random=share)) for share in (0.0, 0.5, 1.0)
    )
    chance = (matched.segment_video_latent @ matched.segment_music_latent.T).mean()
    assert mean_match(matched) > chance + 0.3
    assert mean_match(random) == pytest.approx(chance, abs=0.05)
    assert mean_match(half) == pytest.approx(
        (mean_match(matched) + mean_match(random)) / 2, abs=0.05
    )
    assert np.array_equal(matched.picks.music, random.picks.music), "uploaders pick the same"
