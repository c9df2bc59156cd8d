"""The laws of a world that can be bent one at a time."""

import numpy as np
import pytest

from simulation.world import World, WorldConfig, make_world

SMALL = {"n_videos": 50, "n_music": 40, "n_uploaders": 5, "n_pgc": 100, "knowledge": 0.2}


def heard(world: World) -> float:
    """Return the mean cosine of a segment's pictures and sound."""
    cosine = (world.segment_video_latent * world.segment_music_latent).sum(axis=1)
    return float(cosine.mean())


def test_directors_who_do_not_hear_cut_pictures_at_random() -> None:
    sound, half, deaf = (
        make_world(WorldConfig(**SMALL, pgc_at_random=share)) for share in (0.0, 0.5, 1.0)
    )
    chance = (sound.segment_video_latent @ sound.segment_music_latent.T).mean()
    assert heard(sound) > chance + 0.3
    assert heard(deaf) == pytest.approx(chance, abs=0.05)
    assert heard(half) == pytest.approx((heard(sound) + heard(deaf)) / 2, abs=0.05)
    assert np.array_equal(sound.picks.music, deaf.picks.music), "uploaders pick as before"
