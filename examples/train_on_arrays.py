"""Train DebCM on arrays of your own, and compare it with popularity on held-out picks.

    python examples/train_on_arrays.py

The arrays are drawn at random here. A video and a track match if their hidden contents are alike.
Uploaders pick a match too, but prefer one genre and popular tracks. Takes less than a minute.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from debcm import ModelConfig, Picks, TrainingData, fit, metrics, preference

VIDEOS, TRACKS, UPLOADERS, GENRES, SEGMENTS = 1200, 150, 60, 4, 400
HIDDEN, VIDEO_COLUMNS, MUSIC_COLUMNS = 8, 24, 16


def make_data(seed: int) -> tuple[TrainingData, Picks]:
    """Return training data and the held-out picks after them in time."""
    rng = np.random.default_rng(seed)
    content = _directions(rng.normal(size=(TRACKS, HIDDEN)))
    genre = content[:, :GENRES].argmax(axis=1)
    wanted = _directions(rng.normal(size=(VIDEOS, HIDDEN)))
    uploader = rng.integers(UPLOADERS, size=VIDEOS)
    time = np.sort(rng.uniform(0, 86_400, size=VIDEOS))

    # A pick follows the match, the uploader's favourite genre and popularity.
    favourite = rng.integers(GENRES, size=UPLOADERS)
    habit = 2.0 * (genre[None, :] == favourite[uploader][:, None]) + rng.normal(size=TRACKS)
    utility = 12.0 * wanted @ content.T + habit + rng.gumbel(size=(VIDEOS, TRACKS))
    picked = utility.argmax(axis=1)

    # The model sees noisy views of the contents, and music videos in which both match.
    video_view = rng.normal(size=(HIDDEN, VIDEO_COLUMNS))
    music_view = rng.normal(size=(HIDDEN, MUSIC_COLUMNS))
    scene = rng.integers(TRACKS, size=SEGMENTS)

    # Preference of an uploader at the time of each upload, from strictly earlier uploads.
    population = (np.bincount(genre[picked], minlength=GENRES) + 1.0) / (VIDEOS + GENRES)
    earlier = preference.point_in_time_counts(uploader, time, genre[picked], GENRES)
    smoothed = preference.posterior_mean(earlier, population, concentration=4.0)

    def picks(rows: slice) -> Picks:
        numbers = np.arange(VIDEOS)[rows]
        chosen = smoothed[rows].astype(np.float32)
        return Picks(numbers, picked[rows], uploader[rows], time[rows], chosen)

    data = TrainingData(
        video=_noisy(rng, wanted @ video_view),
        music=_noisy(rng, content @ music_view),
        genre_group=genre,
        n_groups=GENRES,
        train=picks(slice(0, 900)),
        validation=picks(slice(900, 1000)),
        segment_video=_noisy(rng, content[scene] @ video_view),
        segment_music=_noisy(rng, content[scene] @ music_view),
        population_preference=population.astype(np.float32),
    )
    return data, picks(slice(1000, VIDEOS))


def main() -> None:
    """Train, and print recall of the model and of popularity."""
    parser = argparse.ArgumentParser(description="Train DebCM on arrays.")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the picks")
    given = parser.parse_args()

    data, held_out = make_data(seed=0)
    print(data)
    model = fit(data, ModelConfig(dim=32, hidden=64, epochs=given.epochs, batch_size=256))

    music = model.embed_music(data.music, data.genre_group)
    scores = model.embed_videos(data.video[held_out.video]) @ music.T
    popularity = np.bincount(data.train.music, minlength=TRACKS).astype(np.float32)
    # Each pick weighs by the inverse popularity of its track, as in the pipeline's evaluation.
    weight = metrics.inverse_popularity_weights(held_out.music, TRACKS)
    for name, found in (
        ("debcm", scores),
        ("popularity", np.broadcast_to(popularity, scores.shape)),
    ):
        recall = metrics.recall_at_k(found, held_out.music, 10) @ weight
        print(f"{name:<11} recall@10 {recall:.3f}")


def _directions(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rows scaled to length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _noisy(rng: np.random.Generator, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (rows + 0.1 * rng.normal(size=rows.shape)).astype(np.float32)


if __name__ == "__main__":
    main()
