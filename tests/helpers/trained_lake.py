"""Makes a small lake with a trained run from a simulated world."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features import extractor_name
from models import ModelConfig
from pipeline.context import Context
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.publishing import publish
from pipeline.settings.load import Settings
from pipeline.settings.sections import GateSettings, GenreSettings, LakeSettings, SplitSettings
from pipeline.storage.store import Store
from pipeline.training import dataset, evaluate, gate, train
from simulation.world import World, WorldConfig, make_world

DAY = dt.date(2026, 3, 3)
GROUPS = [f"g{i}" for i in range(6)]
CONFIG = WorldConfig(
    n_videos=900,
    n_music=120,
    n_uploaders=40,
    n_pgc=60,
    segments_per_pgc=4,
    knowledge=0.6,
    confounding=0.3,
    carelessness=0.0,
    noise=0.05,
    affinity=20.0,
    days=3,
    video_dim=24,
    music_dim=16,
    seed=3,
)
SETTINGS = Settings(
    genres=GenreSettings(groups={name: [f"genre {name}"] for name in GROUPS}),
    split=SplitSettings(validation_share=0.1, test_share=0.3),
    model=ModelConfig(dim=16, hidden=32, epochs=8, teacher_epochs=15, batch_size=128),
    gate=GateSettings(min_test_rows=50, slice_rows=40, bootstrap_rounds=300),
)


@dataclass(frozen=True)
class TrainedLake:
    """A lake with a trained run, in its own folder; in the fixture `published` with its release."""

    settings: Settings
    lake: Lake
    store: Store
    run_id: str
    world: World

    def request_deletions(self, kind: str, *names: str) -> None:
        """Add deletion requests to the lake."""
        same = {"kind": kind, "requested_at": dt.datetime(2026, 3, 4, tzinfo=dt.UTC), "dt": DAY}
        rows = [{"id_hash": id_hash(kind, name)} | same for name in names]
        self.lake.add("deletions", TABLES["deletions"].frame(rows))

    def remove_old_versions(self) -> None:
        """Remove all old versions of all tables."""
        for table in TABLES:
            self.lake.remove_old_versions(table, 0)

    def all_rows(self) -> dict[str, pl.DataFrame]:
        """Return the rows of every table, except the deletion requests and the erasures."""
        return {
            name: self.lake.read(name).sort(table.key)
            for name, table in TABLES.items()
            if name not in ("deletions", "erasures")
        }

    def quarantine(
        self, *rows: tuple[str, str, str, str | None], uploader_id: str | None = None
    ) -> None:
        """Quarantine rows, given as kind, id, detail and content hash."""
        same = {"dt": DAY, "step": "ingest", "reason": "id_conflict", "attempts": 1}
        same["uploader_id"] = uploader_id
        names = ("kind", "id", "detail", "content_hash")
        rejected = [dict(zip(names, row, strict=True)) | same for row in rows]
        self.lake.add("quarantine", TABLES["quarantine"].frame(rejected))


def settings_in(root: Path) -> Settings:
    lake = LakeSettings(root=str(root), keep_versions_days=0)
    return SETTINGS.model_copy(update={"lake": lake})


def content_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def write_tables(lake: Lake, world: World) -> None:
    """Write the world's arrays as rows of the catalogue and of the features."""
    now = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    n, m = len(world.video_latent), len(world.music_latent)
    visual, audio = extractor_name(SETTINGS.visual), extractor_name(SETTINGS.audio)
    uploads = [dt.datetime.fromtimestamp(t, dt.UTC) for t in world.video_time]
    videos = [
        {
            "video_id": f"v{i:04d}",
            "uploader_id": f"u{world.video_uploader[i]:02d}",
            "music_id": f"m{world.picks.music[i]:03d}",
            "source": "ugc",
            "uploaded_at": uploads[i],
            "content_hash": content_hash(f"v{i:04d}"),
            "media_path": f"media/v{i:04d}.mp4",
        }
        for i in range(n)
    ]
    videos += [
        {
            "video_id": f"p{i:02d}",
            "uploader_id": None,
            "music_id": None,
            "source": "pgc",
            "uploaded_at": uploads[0],
            "content_hash": content_hash(f"p{i:02d}"),
            "media_path": f"media/p{i:02d}.mp4",
        }
        for i in range(len(world.pgc_music))
    ]
    shape = {"width": 320, "height": 180, "fps": 25.0, "duration": 8.0}
    videos = [{**row, **shape, "dt": DAY, "ingested_at": now} for row in videos]
    lake.replace("videos", TABLES["videos"].frame(videos), {"dt": DAY})
    music = [
        {
            "music_id": f"m{i:03d}",
            "genre": f"genre g{world.music_group[i]}",
            "genre_group": f"g{world.music_group[i]}",
            "title": f"Title {i} 花",
            "artist": "Ärtist",
            "content_hash": content_hash(f"m{i:03d}"),
            "media_path": f"media/m{i:03d}.mp3",
            "duration": 15.0,
            "dt": DAY if i % 10 == 0 else DAY - dt.timedelta(days=2),
            "ingested_at": now,
        }
        for i in range(m)
    ]
    tracks = TABLES["music"].frame(music)
    for day in tracks["dt"].unique():
        lake.replace("music", tracks.filter(dt=day), {"dt": day})
    segments = []
    pictures = [(content_hash(f"v{i:04d}"), -1, x) for i, x in enumerate(world.video_features)]
    sounds = [(content_hash(f"m{i:03d}"), -1, x) for i, x in enumerate(world.music_features)]
    for row, pgc in enumerate(world.segment_pgc):
        number = row % CONFIG.segments_per_pgc
        video_id = f"p{pgc:02d}"
        segments.append(
            {
                "segment_id": f"{video_id}#{number}",
                "video_id": video_id,
                "content_hash": content_hash(video_id),
                "segment": number,
                "start": 10.0 * number,
                "end": 10.0 * number + 10,
                "dt": DAY,
            }
        )
        pictures.append((content_hash(video_id), number, world.segment_video_features[row]))
        sounds.append((content_hash(video_id), number, world.segment_music_features[row]))
    lake.replace("segments", TABLES["segments"].frame(segments), {"dt": DAY})
    for table, extractor, rows in (
        ("visual_features", visual, pictures),
        ("audio_features", audio, sounds),
    ):
        extra = {"frames": pl.lit(16, pl.Int32)} if table == "visual_features" else {}
        frame = pl.DataFrame(
            {
                "content_hash": [row[0] for row in rows],
                "segment": pl.Series([row[1] for row in rows], dtype=pl.Int32),
                "embedding": pl.Series(
                    [row[2].tolist() for row in rows], dtype=pl.List(pl.Float32)
                ),
            }
        ).with_columns(extractor=pl.lit(extractor), decoder=pl.lit("pyav"), dt=pl.lit(DAY), **extra)
        lake.replace(table, frame, {"extractor": extractor, "dt": DAY})


def train_lake(root: Path) -> tuple[str, World]:
    """Fill a new lake from the world and train a run; return its run_id and the world."""
    settings = settings_in(root)
    world = make_world(CONFIG)
    write_tables(Lake(settings.lake), world)
    run_id = dataset.build(Context(settings), DAY).run_id
    train.teacher(Context(settings), run_id)
    train.student(Context(settings), run_id)
    return run_id, world


def copy_of(root: Path, run_id: str, world: World, to: Path) -> TrainedLake:
    shutil.copytree(root, to)
    settings = settings_in(to)
    return TrainedLake(settings, Lake(settings.lake), Store(settings.lake), run_id, world)


def publish_run(toy: TrainedLake, run_id: str) -> None:
    evaluate.run(Context(toy.settings), run_id)
    decision = gate.decide(Context(toy.settings), run_id)
    assert decision.may_publish, decision.failed
    publish.run(Context(toy.settings), run_id)
