"""Plans the files of a small world: ids, landing days, formats, and controls of each clip.

The plan depends only on the world. `simulation.render` renders it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from models.arrays import Float64Array, Int64Array
from simulation.music import MusicControls
from simulation.pictures import PictureControls
from simulation.styles import GENRE_GROUPS
from simulation.titles import make_artist, make_title
from simulation.world import DAY, FIRST_DAY, World, WorldConfig

# Dimensions of a latent that can be rendered: the number of controls of music and of pictures.
CONTROLS = 8

# Length of a segment of a music video. Frames and sound change together at its end.
SEGMENT_SECONDS = 10.0

# The world of the demo: three days, rendered in about a minute. Uploaders hear better and know more
# tracks than in the large worlds: otherwise a model could not learn from so few picks. With this
# seed every genre group has tracks and segments.
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
    """A part of a video with one kind of picture and one kind of sound.

    Attributes:
        scene: kind of scene, an index of `pictures.SCENES`.
        look: controls of the frames.
        seconds: length of the part.
        genre: genre group of the music, or None for ambient sound without music.
        tune: controls of the music; ambient sound uses only `density`.
    """

    scene: int
    look: PictureControls
    seconds: float
    genre: str | None
    tune: MusicControls


@dataclass(frozen=True)
class PlannedVideo:
    """A row of the manifest `videos` and its media file."""

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
        """The landing day of the video."""
        return self.uploaded_at.date()


@dataclass(frozen=True)
class PlannedMusic:
    """A row of the manifest `music` and its media file."""

    music_id: str
    group: str
    genre: str
    title: str
    artist: str
    day: dt.date
    media_path: str
    tune: MusicControls
    seconds: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything to render; row i of `videos` (UGC first) and of `music` is row i of the world."""

    days: tuple[dt.date, ...]
    music: tuple[PlannedMusic, ...]
    videos: tuple[PlannedVideo, ...]


def music_id(row: int) -> str:
    """Return the id of the track in a row of the world."""
    return f"m{row + 1:04d}"


def video_id(row: int) -> str:
    """Return the id of the UGC video in a row of the world."""
    return f"v{row + 1:04d}"


def uploader_id(row: int) -> str:
    """Return the id of the uploader in a row of the world."""
    return f"u{row + 1:02d}"


def make_plan(world: World) -> Plan:
    """Plan ids, days, formats and controls of all videos and tracks of a world.

    Args:
        world: a world with `CONTROLS` latent dimensions and at most six genre groups.

    Returns:
        The plan; equal worlds give equal plans.

    Raises:
        ValueError: the world has other dimensions or too many groups to be rendered.
    """
    config = world.config
    if config.latent_dim != CONTROLS or config.n_groups > len(GENRE_GROUPS):
        raise ValueError(
            f"a world with latent_dim {config.latent_dim} and n_groups {config.n_groups} cannot be "
            f"rendered: latent_dim must be {CONTROLS}, n_groups at most {len(GENRE_GROUPS)}"
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


def _rows(array: Int64Array) -> range:
    return range(len(array))


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), tz=dt.UTC)


def _controls(latents: Float64Array, world: World) -> Float64Array:
    """Turn float64 [n, K] latents into float64 [n, K] controls, about uniform over [0, 1].

    A fixed rotation spreads the genre groups over all controls: content between two genres then
    also looks and sounds in between.
    """
    rotation, _ = np.linalg.qr(np.random.default_rng(2022).standard_normal((CONTROLS, CONTROLS)))
    everything = np.concatenate([world.video_latent, world.music_latent]) @ rotation
    scaled = (latents @ rotation - everything.mean(axis=0)) / everything.std(axis=0)
    return np.asarray(ndtr(scaled), np.float64)


def _look(latent: Float64Array, world: World) -> PictureControls:
    return PictureControls(*_controls(latent[None], world)[0].tolist())


def _tune(latent: Float64Array, world: World) -> MusicControls:
    return MusicControls(*_controls(latent[None], world)[0].tolist())


def _music_days(world: World, rng: np.random.Generator) -> Int64Array:
    """Return int64 [M]: the landing day of each track, counted from 0.

    Most tracks are delivered on the first day, and the world's late tracks on the day they appear.
    A few tracks that nobody picks on the first day are delivered on the second, so that every day
    has new tracks.
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
    delivered: Int64Array,
    rng: np.random.Generator,
) -> PlannedVideo:
    name = f"p{row + 1:04d}"
    track = int(world.pgc_music[row])
    # Deliver half of the music videos on the first day: the teacher needs them.
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
