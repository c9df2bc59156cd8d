"""Simulates a world in which the true match of every video and track is known.

The world consists of arrays; `simulation.render` turns a small world into media files. The causal
model (docs/model.md draws the graph):

* A video and a track each have a latent content, a unit vector. Its first `n_groups` coordinates
  say how much of each genre group it contains; the others vary within a genre. The true match, the
  *affinity*, is the scaled dot product of the two latents.
* Music videos (PGC): directors select the pictures of a segment by their affinity to its sound.
* Uploaders (UGC) know few tracks, mostly popular ones and those of genres that they like. Among
  these they pick by affinity, their genre preference and popularity.
* A model sees only features: noisy nonlinear views of the latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.arrays import BoolArray, Float32Array, Float64Array, Int64Array

# Start of every world, 2026-03-01T00:00:00Z, in seconds since the UTC epoch.
FIRST_DAY = 1_772_323_200.0

# Seconds of a day.
DAY = 86_400.0


class WorldConfig(BaseModel):
    """Sizes and effect strengths of a world; the defaults are those of docs/results.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_videos: int = Field(24_000, description="UGC videos", gt=0)
    n_music: int = Field(3_003, description="tracks in the catalogue", gt=0)
    n_uploaders: int = Field(1_000, description="uploaders", gt=0)
    n_pgc: int = Field(1_800, description="PGC music videos", ge=0)
    pgc_at_random: float = Field(
        0.0,
        description="share of the segments whose pictures are selected at random",
        ge=0,
        le=1,
    )
    segments_per_pgc: int = Field(6, description="segments per music video", gt=0)
    n_groups: int = Field(6, description="genre groups", gt=1)
    latent_dim: int = Field(12, description="dimension of the latent content", gt=1)
    separation: float = Field(
        0.8,
        description="length of a genre's direction, relative to the variation within a genre",
        ge=0,
    )
    affinity: float = Field(
        12.0, description="nats of affinity between identical and orthogonal content", ge=0
    )
    confounding: float = Field(
        1.0,
        description="exponent of the uploader's genre preference, both for the tracks that an "
        "uploader knows and for the picks",
        ge=0,
    )
    popularity: float = Field(
        0.5,
        description="exponent of a track's popularity, for the tracks known and for the picks",
        ge=0,
    )
    knowledge: float = Field(
        0.02, description="share of the catalogue that an uploader knows", gt=0, le=1
    )
    carelessness: float = Field(
        0.3,
        description="share of the affinity that uploaders, who are no experts, ignore",
        ge=0,
        le=1,
    )
    noise: float = Field(
        0.2, description="standard deviation of the feature noise, relative to the signal's", ge=0
    )
    video_dim: int = Field(128, description="columns of a video's features", gt=0)
    music_dim: int = Field(64, description="columns of a track's features", gt=0)
    late_share: float = Field(
        0.08,
        description="share of the tracks that first appear in the last fifth of the days",
        ge=0,
        lt=1,
    )
    days: int = Field(100, description="days over which videos are uploaded", gt=0)
    seed: int = Field(0, description="seed of every random number in the world", ge=0)


@dataclass(frozen=True)
class Choices:
    """Picks in order of time: which uploader picked which track for which video.

    Attributes:
        video: int64[P], row of the video.
        music: int64[P], row of the track.
        uploader: int64[P], row of the uploader.
        time: float64[P], time of upload, seconds since the UTC epoch, ascending.
    """

    video: Int64Array
    music: Int64Array
    uploader: Int64Array
    time: Float64Array


@dataclass(frozen=True)
class World:
    """A world and its ground truth.

    N videos, M tracks, U uploaders, S PGC segments, G genre groups, K latent dimensions.

    Attributes:
        config: sizes and effect strengths.
        video_latent: float64[N, K], unit vectors, the content of UGC videos.
        video_group: int64[N], genre group of each video.
        video_uploader: int64[N], row of the uploader of each video.
        video_time: float64[N], time of upload, seconds since the UTC epoch, ascending.
        music_latent: float64[M, K], unit vectors, the content of tracks.
        music_group: int64[M], genre group of each track.
        music_time: float64[M], time from which the track exists; before FIRST_DAY for most.
        popularity: float64[M], positive, sums to one.
        uploader_preference: float64[U, G], true genre preferences; rows sum to one.
        known: bool[U, M], the tracks that each uploader knows.
        picks: the uploaders' biased picks, one per video.
        unbiased_picks: picks for the same videos by affinity only, from the whole catalogue.
        pgc_music: int64[n_pgc], row of the track of each music video.
        segment_pgc: int64[S], row of the music video of each segment.
        segment_video_latent: float64[S, K], content of a segment's pictures.
        segment_music_latent: float64[S, K], content of a segment's sound.
        video_features: float32[N, video_dim].
        music_features: float32[M, music_dim].
        segment_video_features: float32[S, video_dim].
        segment_music_features: float32[S, music_dim].
    """

    config: WorldConfig
    video_latent: Float64Array
    video_group: Int64Array
    video_uploader: Int64Array
    video_time: Float64Array
    music_latent: Float64Array
    music_group: Int64Array
    music_time: Float64Array
    popularity: Float64Array
    uploader_preference: Float64Array
    known: BoolArray
    picks: Choices
    unbiased_picks: Choices
    pgc_music: Int64Array
    segment_pgc: Int64Array
    segment_video_latent: Float64Array
    segment_music_latent: Float64Array
    video_features: Float32Array
    music_features: Float32Array
    segment_video_features: Float32Array
    segment_music_features: Float32Array

    def affinity(self, video_rows: Int64Array) -> Float64Array:
        """Return the true match of videos with every track.

        Args:
            video_rows: int64[n], rows of videos.

        Returns:
            float64[n, M] in nats; the probability of an unbiased pick is proportional to its exp.
        """
        product: Float64Array = self.video_latent[video_rows] @ self.music_latent.T
        return self.config.affinity * product


def _unit(rows: Float64Array) -> Float64Array:
    """Scale each row of float64[n, K] to length one."""
    scaled: Float64Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _content(group: Int64Array, config: WorldConfig, rng: np.random.Generator) -> Float64Array:
    """Draw float64[n, K]: unit latents around the directions of their genre groups."""
    rows = rng.standard_normal((len(group), config.latent_dim)) / np.sqrt(config.latent_dim)
    rows[np.arange(len(group)), group % config.latent_dim] += config.separation
    return _unit(rows)


def _group_share(config: WorldConfig) -> Float64Array:
    """Return float64[G]: the share of each genre group, the most common first."""
    share = 0.75 ** np.arange(config.n_groups)
    result: Float64Array = share / share.sum()
    return result


def _groups(n: int, share: Float64Array, rng: np.random.Generator) -> Int64Array:
    """Draw int64[n]: genre groups, each at least once if n is large enough."""
    groups = rng.choice(len(share), size=n, p=share)
    fixed = rng.permutation(n)[: len(share)]
    groups[fixed] = np.arange(len(fixed))
    return groups.astype(np.int64)


def _view(
    latent: Float64Array, mix: Float64Array, config: WorldConfig, rng: np.random.Generator
) -> Float32Array:
    """Return float32[n, D]: a noisy nonlinear view of float64[n, K] latents.

    `mix` float64[D, 2 K] also mixes in K nuisance variables per row (style, recording) that are
    independent of the match. Each column has its own offset and scale, like real features.
    """
    nuisance = rng.standard_normal(latent.shape) / np.sqrt(latent.shape[1])
    hidden = np.hstack([latent, config.noise * nuisance]) @ mix.T
    signal = np.tanh(hidden) + 0.3 * np.square(hidden)
    noisy = signal + config.noise * rng.standard_normal(signal.shape)
    column = np.arange(len(mix))
    scaled = noisy * (0.5 + (column % 7)) + (column % 5)
    return scaled.astype(np.float32)


def _gumbel_pick(utility: Float64Array, rng: np.random.Generator) -> Int64Array:
    """Draw int64[n]: one column per row of float64[n, C], with P proportional to exp(utility)."""
    chosen: Int64Array = np.argmax(utility + rng.gumbel(size=utility.shape), axis=1).astype(
        np.int64
    )
    return chosen


def _known_tracks(
    preference: Float64Array,
    group: Int64Array,
    popularity: Float64Array,
    config: WorldConfig,
    rng: np.random.Generator,
) -> BoolArray:
    """Draw bool[U, M]: the tracks that each uploader knows, by popularity and preference."""
    utility = config.popularity * np.log(popularity)[None, :] + config.confounding * np.log(
        np.maximum(preference[:, group], 1e-6)
    )
    count = min(len(group), max(2, round(config.knowledge * len(group))))
    keys = utility + rng.gumbel(size=utility.shape)
    top = np.argpartition(-keys, count - 1, axis=1)[:, :count]
    known = np.zeros(utility.shape, dtype=np.bool_)
    np.put_along_axis(known, top, True, axis=1)
    return known


def _biased_music(
    world: _Content,
    preference: Float64Array,
    popularity: Float64Array,
    known: BoolArray,
    config: WorldConfig,
    rng: np.random.Generator,
) -> Int64Array:
    """Draw int64[N]: the uploader's pick for each video, among known tracks that exist by then."""
    picked = np.empty(len(world.video_latent), dtype=np.int64)
    bias = config.confounding * np.log(np.maximum(preference[:, world.music_group], 1e-6))
    bias += config.popularity * np.log(popularity)
    for uploader in range(len(preference)):
        rows = np.flatnonzero(world.video_uploader == uploader)
        tracks = np.flatnonzero(known[uploader])
        strength = (1.0 - config.carelessness) * config.affinity
        utility = strength * (world.video_latent[rows] @ world.music_latent[tracks].T)
        utility += bias[uploader, tracks]
        early = world.video_time[rows, None] < world.music_time[None, tracks]
        picked[rows] = tracks[_gumbel_pick(np.where(early, -np.inf, utility), rng)]
    return picked


def _unbiased_music(world: _Content, config: WorldConfig, rng: np.random.Generator) -> Int64Array:
    """Draw int64[N]: a pick by affinity only for each video, among tracks that exist by then."""
    picked = np.empty(len(world.video_latent), dtype=np.int64)
    for start in range(0, len(picked), 2048):
        rows = slice(start, start + 2048)
        utility = config.affinity * (world.video_latent[rows] @ world.music_latent.T)
        early = world.video_time[rows, None] < world.music_time[None, :]
        picked[rows] = _gumbel_pick(np.where(early, -np.inf, utility), rng)
    return picked


@dataclass(frozen=True)
class _Content:
    """The parts of a world that picks depend on."""

    video_latent: Float64Array
    video_uploader: Int64Array
    video_time: Float64Array
    music_latent: Float64Array
    music_group: Int64Array
    music_time: Float64Array


def _appearance(known: BoolArray, config: WorldConfig, rng: np.random.Generator) -> Float64Array:
    """Draw float64[M]: the time from which each track exists; late ones in the last 20 % of days.

    Each uploader knows at least one track that exists from the start: otherwise there would be
    nothing to pick.
    """
    time = np.full(known.shape[1], FIRST_DAY - DAY)
    late = rng.permutation(known.shape[1])[: round(config.late_share * known.shape[1])]
    span = max(config.days * 0.2, 1.0)
    time[late] = FIRST_DAY + DAY * (config.days - span * rng.uniform(size=len(late)))
    for row in known:
        if (time[row] > FIRST_DAY).all():
            time[np.flatnonzero(row)[0]] = FIRST_DAY - DAY
    return time


def _segments(
    pgc_music: Int64Array, music_latent: Float64Array, config: WorldConfig, rng: np.random.Generator
) -> tuple[Float64Array, Float64Array]:
    """Draw (pictures, sounds), each float64[S, K]: latents of the segments of music videos.

    The sound of a segment varies around its track. Its pictures are selected by affinity from 1,000
    shots with the same distribution of content as UGC videos. A share `pgc_at_random` of the
    segments gets a random shot instead.
    """
    base = np.repeat(music_latent[pgc_music], config.segments_per_pgc, axis=0)
    sound_noise = rng.standard_normal(base.shape) / np.sqrt(config.latent_dim)
    sound = _unit(base + 0.6 * sound_noise)
    shots = _content(_groups(1_000, _group_share(config), rng), config, rng)
    picture = np.empty_like(sound)
    for start in range(0, len(sound), 4096):
        rows = slice(start, start + 4096)
        utility = config.affinity * (sound[rows] @ shots.T)
        picture[rows] = shots[_gumbel_pick(utility, rng)]
    if config.pgc_at_random:
        random = np.flatnonzero(rng.random(len(picture)) < config.pgc_at_random)
        picture[random] = shots[rng.integers(len(shots), size=len(random))]
    picture_noise = rng.standard_normal(picture.shape) / np.sqrt(config.latent_dim)
    return _unit(picture + 0.3 * picture_noise), sound


def make_world(config: WorldConfig) -> World:
    """Make a world.

    Args:
        config: sizes, effect strengths and the seed; equal configurations give equal worlds.

    Returns:
        The world. Its videos are in order of time, over `config.days` days from FIRST_DAY.
    """
    rng = np.random.default_rng(config.seed)
    share = _group_share(config)
    video_group = _groups(config.n_videos, np.full(config.n_groups, 1 / config.n_groups), rng)
    music_group = _groups(config.n_music, share, rng)
    activity = rng.lognormal(0.0, 0.7, size=config.n_uploaders)
    preference = rng.dirichlet(4.0 * share + 0.05, size=config.n_uploaders)
    rank = rng.permutation(config.n_music) + 1.0
    popularity = rank**-0.8 * share[music_group]
    popularity /= popularity.sum()
    known = _known_tracks(preference, music_group, popularity, config, rng)
    content = _Content(
        video_latent=_content(video_group, config, rng),
        video_uploader=rng.choice(
            config.n_uploaders, size=config.n_videos, p=activity / activity.sum()
        ).astype(np.int64),
        video_time=np.sort(FIRST_DAY + DAY * config.days * rng.uniform(size=config.n_videos)),
        music_latent=_content(music_group, config, rng),
        music_group=music_group,
        music_time=_appearance(known, config, rng),
    )
    rows = np.arange(config.n_videos, dtype=np.int64)
    picked = _biased_music(content, preference, popularity, known, config, rng)
    unbiased = _unbiased_music(content, config, rng)
    pgc_music = rng.permuted(np.arange(config.n_pgc, dtype=np.int64) % config.n_music)
    picture, sound = _segments(pgc_music, content.music_latent, config, rng)
    video_mix = rng.standard_normal((config.video_dim, 2 * config.latent_dim))
    music_mix = rng.standard_normal((config.music_dim, 2 * config.latent_dim))
    return World(
        config=config,
        video_latent=content.video_latent,
        video_group=video_group,
        video_uploader=content.video_uploader,
        video_time=content.video_time,
        music_latent=content.music_latent,
        music_group=music_group,
        music_time=content.music_time,
        popularity=popularity,
        uploader_preference=preference,
        known=known,
        picks=Choices(rows, picked, content.video_uploader, content.video_time),
        unbiased_picks=Choices(rows, unbiased, content.video_uploader, content.video_time),
        pgc_music=pgc_music,
        segment_pgc=np.repeat(np.arange(config.n_pgc, dtype=np.int64), config.segments_per_pgc),
        segment_video_latent=picture,
        segment_music_latent=sound,
        video_features=_view(content.video_latent, video_mix, config, rng),
        music_features=_view(content.music_latent, music_mix, config, rng),
        segment_video_features=_view(picture, video_mix, config, rng),
        segment_music_features=_view(sound, music_mix, config, rng),
    )
