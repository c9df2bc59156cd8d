"""What a small world looks and sounds like as files: who delivers what on which day.

The plan is made from the world alone: ids, days, formats, and how each latent is to be
drawn and played. Nothing is rendered here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from simulation.music import Musical
from simulation.pictures import Pictorial
from simulation.styles import GENRE_GROUPS
from simulation.titles import make_artist, make_title
from simulation.world import DAY, FIRST_DAY, World, WorldConfig

CONTROLS = 8
"""Dimensions of a latent that can be rendered: as many as `Musical` and `Pictorial` have."""

SEGMENT_SECONDS = 10.0
"""Length of one segment of a music video: its pictures and sound change together after it."""

SMALL_WORLD = WorldConfig(
    n_videos=150,
    n_music=40,
    n_uploaders=12,
    n_pgc=12,
    segments_per_pgc=4,
    n_groups=len(GENRE_GROUPS),
    latent_dim=CONTROLS,
    separation=1.5,
    affinity=16.0,
    popularity=0.3,
    knowledge=0.5,
    carelessness=0.1,
    late_share=0.1,
    days=3,
    seed=123,
)
"""The world of the demo: three days, small enough to render in a minute.

Uploaders hear better and know more than in the large worlds, because so few picks could teach
nothing otherwise. The seed is one for which each genre group has tracks and segments.
"""

_SPELLINGS = {
    "electronic": ("techno", "house"),
    "rock": ("rock", "punk"),
    "hiphop": ("hip hop", "rap"),
    "folk": ("folk", "acoustic"),
    "pop": ("pop", "synthpop"),
    "classical": ("orchestral", "piano"),
}
_MUSIC_EXTENSIONS = ("mp3", "ogg", "m4a", "flac", "wav")
_LANDSCAPE, _PORTRAIT = (256, 144), (144, 256)


@dataclass(frozen=True)
class Part:
    """A stretch of a video with one look and one sound.

    Attributes:
        scene: kind of scene, an index of `pictures.SCENES`.
        look: the pictures' controls.
        seconds: its length.
        genre: genre group of its music, or None for the sound of a place.
        tune: the music's controls; for the sound of a place only `density` counts.
    """

    scene: int
    look: Pictorial
    seconds: float
    genre: str | None
    tune: Musical


@dataclass(frozen=True)
class PlannedVideo:
    """A row of `videos.*` and the file it names."""

    video_id: str
    uploader_id: str
    music_id: str
    source: str
    uploaded_at: dt.datetime
    media_path: str
    parts: tuple[Part, ...]
    fps: int
    size: tuple[int, int]
    seed: int

    @property
    def day(self) -> dt.date:
        """The landing day that delivers it."""
        return self.uploaded_at.date()


@dataclass(frozen=True)
class PlannedMusic:
    """A row of `music.*` and the file it names."""

    music_id: str
    group: str
    genre: str
    title: str
    artist: str
    day: dt.date
    media_path: str
    tune: Musical
    seconds: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything to render, UGC first; row i of `videos` and `music` is row i of the world."""

    days: tuple[dt.date, ...]
    music: tuple[PlannedMusic, ...]
    videos: tuple[PlannedVideo, ...]


def music_id(row: int) -> str:
    """The id of the track in a row of the world."""
    return f"m{row + 1:04d}"


def video_id(row: int) -> str:
    """The id of the UGC video in a row of the world."""
    return f"v{row + 1:04d}"


def uploader_id(row: int) -> str:
    """The id of the uploader in a row of the world."""
    return f"u{row + 1:02d}"


def make_plan(world: World) -> Plan:
    """Decides ids, days, formats and controls of everything a world holds.

    Args:
        world: with `CONTROLS` latent dimensions and at most six genre groups.

    Returns:
        The plan; equal worlds give equal plans.

    Raises:
        ValueError: the world has other dimensions or more groups than can be rendered.
    """
    config = world.config
    if config.latent_dim != CONTROLS or config.n_groups > len(GENRE_GROUPS):
        raise ValueError(
            f"latent_dim {config.latent_dim} and n_groups {config.n_groups} cannot be rendered: "
            f"they must be {CONTROLS} and at most {len(GENRE_GROUPS)}"
        )
    rng = np.random.default_rng((config.seed, 1))
    days = tuple(_moment(FIRST_DAY + DAY * day).date() for day in range(config.days))
    delivered = _music_days(world, rng)
    music = tuple(
        _plan_music(world, row, days[delivered[row]], rng) for row in _rows(world.music_group)
    )
    ugc = [_plan_ugc(world, row, rng) for row in _rows(world.video_group)]
    pgc = [_plan_pgc(world, row, days, delivered, rng) for row in _rows(world.pgc_music)]
    return Plan(days, music, (*ugc, *pgc))


def _rows(array: NDArray[np.int64]) -> range:
    return range(len(array))


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), tz=dt.UTC)


def _controls(latents: NDArray[np.float64], world: World) -> NDArray[np.float64]:
    """Turns float64[n, K] latents into float64[n, K] controls, each even over [0, 1].

    A fixed rotation spreads the genre groups over all controls, so that content which lies
    between two genres also looks and sounds so.
    """
    rotation, _ = np.linalg.qr(np.random.default_rng(2022).standard_normal((CONTROLS, CONTROLS)))
    everything = np.concatenate([world.video_latent, world.music_latent]) @ rotation
    scaled = (latents @ rotation - everything.mean(axis=0)) / everything.std(axis=0)
    return np.asarray(ndtr(scaled), np.float64)


def _look(latent: NDArray[np.float64], world: World) -> Pictorial:
    return Pictorial(*_controls(latent[None], world)[0].tolist())


def _tune(latent: NDArray[np.float64], world: World) -> Musical:
    return Musical(*_controls(latent[None], world)[0].tolist())


def _music_days(world: World, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns int64[M]: the landing day, from 0, that delivers each track.

    Most tracks come on the first day and the world's late ones on the day they appear. A few
    tracks that nobody uses on the first day come on the second, so that every day brings some.
    """
    appears = np.floor((world.music_time - FIRST_DAY) / DAY).astype(np.int64)
    delivered = np.maximum(appears, 0)
    used_early = world.picks.music[world.picks.time < FIRST_DAY + DAY]
    spare = np.setdiff1d(np.flatnonzero(delivered == 0), used_early)
    if world.config.days > 1:
        delivered[rng.permutation(spare)[:3]] = 1
    return delivered


def _plan_music(world: World, row: int, day: dt.date, rng: np.random.Generator) -> PlannedMusic:
    group = GENRE_GROUPS[world.music_group[row]]
    name = music_id(row)
    return PlannedMusic(
        music_id=name,
        group=group,
        genre=str(rng.choice(_SPELLINGS[group])),
        title=make_title(row, int(world.music_group[row]), rng),
        artist=make_artist(rng),
        day=day,
        media_path=f"media/music/{name}.{_MUSIC_EXTENSIONS[row % len(_MUSIC_EXTENSIONS)]}",
        tune=_tune(world.music_latent[row], world),
        seconds=float(rng.uniform(10.0, 20.0)),
        seed=int(rng.integers(2**31)),
    )


def _plan_ugc(world: World, row: int, rng: np.random.Generator) -> PlannedVideo:
    name = video_id(row)
    latent = world.video_latent[row]
    part = Part(
        scene=int(world.video_group[row]),
        look=_look(latent, world),
        seconds=float(rng.uniform(4.0, 10.0)),
        genre=None,
        tune=_tune(latent, world),
    )
    return PlannedVideo(
        video_id=name,
        uploader_id=uploader_id(int(world.video_uploader[row])),
        music_id=music_id(int(world.picks.music[row])),
        source="ugc",
        uploaded_at=_moment(float(world.video_time[row])),
        media_path=f"media/video/{name}.{'webm' if row % 4 == 1 else 'mp4'}",
        parts=(part,),
        fps=int(rng.choice((12, 15, 20))),
        size=_PORTRAIT if row % 3 == 2 else _LANDSCAPE,
        seed=int(rng.integers(2**31)),
    )


def _plan_pgc(
    world: World,
    row: int,
    days: tuple[dt.date, ...],
    delivered: NDArray[np.int64],
    rng: np.random.Generator,
) -> PlannedVideo:
    name = f"p{row + 1:04d}"
    track = int(world.pgc_music[row])
    # Half of the music videos come on the first day: the teacher needs them.
    wanted = 0 if row % 2 == 0 else row // 2 % len(days)
    day = days[max(wanted, int(delivered[track]))]
    noon = dt.datetime.combine(day, dt.time(12, row % 60), tzinfo=dt.UTC)
    return PlannedVideo(
        video_id=name,
        uploader_id=f"label{row % 3 + 1}",
        music_id=music_id(track),
        source="pgc",
        uploaded_at=noon,
        media_path=f"media/video/{name}.{'webm' if row % 6 == 5 else 'mp4'}",
        parts=tuple(_segment(world, int(s)) for s in np.flatnonzero(world.segment_pgc == row)),
        fps=15,
        size=_LANDSCAPE,
        seed=int(rng.integers(2**31)),
    )


def _segment(world: World, segment: int) -> Part:
    picture = world.segment_video_latent[segment]
    sound = world.segment_music_latent[segment]
    groups = world.config.n_groups
    return Part(
        scene=int(picture[:groups].argmax()),
        look=_look(picture, world),
        seconds=SEGMENT_SECONDS,
        genre=GENRE_GROUPS[int(sound[:groups].argmax())],
        tune=_tune(sound, world),
    )
