"""Embeds the items of a dataset and writes them into a release folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.arrays import Float32Array, Int64Array
from pipeline.errors import ReleaseError
from pipeline.lake.catalog import id_hash
from pipeline.publishing.model_card import model_card
from pipeline.releases import files
from pipeline.releases import index as music_index
from pipeline.releases.files import ReleaseInfo, read_table, read_vectors
from pipeline.releases.towers import Towers
from pipeline.settings.sections import ReleaseSettings
from pipeline.training.dataset import Dataset

KNOWN_QUERIES = 32
# Enough videos to measure the recall of the index.
_INDEX_QUERIES = 1000


@dataclass(frozen=True)
class ReleaseContents:
    """The items of a release and their embeddings: M tracks, N videos, D dimensions.

    Attributes:
        music: music_id, title, artist, genre, genre_group, cold; one row per track.
        adjusted: float32 [M, D], the embeddings that are served.
        unadjusted: float32 [M, D], the same without the backdoor adjustment.
        videos: video_id, uploader_hash; one row per video.
        embeddings: float32 [N, D], of the videos.
        queries: int64 [Q], rows of the videos that serve as known queries: verification embeds
            their features again and compares the answers.
        features: float32 [Q, Dv], raw features of the known queries.
    """

    music: pl.DataFrame
    adjusted: Float32Array
    unadjusted: Float32Array
    videos: pl.DataFrame
    embeddings: Float32Array
    queries: Int64Array
    features: Float32Array

    @classmethod
    def embed(cls, dataset: Dataset, towers: Towers) -> ReleaseContents:
        """Embed every item of a dataset."""
        data = dataset.training
        count = min(KNOWN_QUERIES, len(data.video))
        queries = np.unique(np.linspace(0, len(data.video) - 1, count).astype(np.int64))
        uploader = dataset.videos["uploader_id"]
        hashes = {name: id_hash("uploader", name) for name in uploader.unique()}
        return cls(
            music=dataset.music.select(*files.MUSIC_TEXTS, "cold"),
            adjusted=towers.embed_music(data.music, data.genre_group),
            unadjusted=towers.embed_music(data.music, data.genre_group, adjusted=False),
            videos=dataset.videos.select(
                "video_id", uploader_hash=uploader.replace_strict(hashes, return_dtype=pl.String)
            ),
            embeddings=towers.embed_videos(data.video),
            queries=queries,
            features=data.video[queries],
        )

    @classmethod
    def read(cls, folder: Path, run_id: str) -> ReleaseContents:
        """Read what `write_release_files` wrote.

        Raises:
            ReleaseError: a file is missing, damaged or from another run.
        """
        music = read_table(folder / files.MUSIC, run_id, [*files.MUSIC_TEXTS, "cold"])
        videos = read_table(folder / files.VIDEO, run_id, list(files.VIDEO_TEXTS))
        queries = read_table(folder / files.QUERIES, run_id, ["video_id"])
        row_of = {name: row for row, name in enumerate(videos["video_id"].to_pylist())}
        query_rows = [row_of[name] for name in queries["video_id"].to_pylist()]
        return cls(
            music=pl.DataFrame(pl.from_arrow(music)),
            adjusted=read_vectors(folder / files.MUSIC, run_id, "embedding"),
            unadjusted=read_vectors(folder / files.MUSIC, run_id, "unadjusted"),
            videos=pl.DataFrame(pl.from_arrow(videos)),
            embeddings=read_vectors(folder / files.VIDEO, run_id, "embedding"),
            queries=np.array(query_rows, dtype=np.int64),
            features=read_vectors(folder / files.QUERIES, run_id, "features"),
        )

    def without(self, deleted: Collection[str]) -> ReleaseContents:
        """Return the contents without the items whose deletion was requested.

        Args:
            deleted: values of `id_hash` in table `deletions`.
        """
        if not deleted:
            return self
        music = np.array(
            [id_hash("music", name) not in deleted for name in self.music["music_id"]], dtype=bool
        )
        videos = np.array(
            [
                id_hash("video", name) not in deleted and uploader not in deleted
                for name, uploader in self.videos.iter_rows()
            ],
            dtype=bool,
        )
        kept_queries = videos[self.queries]
        new_row = np.cumsum(videos) - 1
        return ReleaseContents(
            music=self.music.filter(pl.Series(music)),
            adjusted=self.adjusted[music],
            unadjusted=self.unadjusted[music],
            videos=self.videos.filter(pl.Series(videos)),
            embeddings=self.embeddings[videos],
            queries=new_row[self.queries[kept_queries]],
            features=self.features[kept_queries],
        )


def write_release_files(
    folder: Path,
    info: ReleaseInfo,
    contents: ReleaseContents,
    metrics: dict[str, Any],
    settings: ReleaseSettings,
) -> None:
    """Write tables, index, metrics, model card and release info into a folder with its towers.

    Args:
        folder: the release folder; `save_towers` has written the towers.
        info: the release info; its field `index` is replaced by the kind of index built.
        contents: items and embeddings.
        metrics: content of metrics.json, without the measurements of the index.
        settings: section `[release]`.

    Raises:
        ReleaseError: an embedding is not finite, or the index loses more recall than
            `[release] index_recall_loss` allows.
    """
    run_id = info.run_id
    music, videos = contents.music, contents.videos
    files.write_table(
        folder / files.MUSIC,
        run_id,
        music.to_arrow(),
        {"embedding": contents.adjusted, "unadjusted": contents.unadjusted},
    )
    files.write_table(
        folder / files.VIDEO,
        run_id,
        videos.to_arrow(),
        {"embedding": contents.embeddings},
    )
    files.write_table(
        folder / files.QUERIES,
        run_id,
        videos.select(pl.col("video_id").gather(contents.queries)).to_arrow(),
        {"features": np.nan_to_num(contents.features)},
    )
    index = music_index.build_index(contents.adjusted, settings.flat_index_below)
    music_index.write_index(index, folder / files.INDEX)
    queries = contents.embeddings[:: max(1, len(contents.embeddings) // _INDEX_QUERIES)]
    report = music_index.measure(index, contents.adjusted, queries)
    if report.recall < 1.0 - settings.index_recall_loss:
        raise ReleaseError(
            f"the index finds {report.recall:.2%} of the exact top {report.k}; [release] "
            f"index_recall_loss requires {1 - settings.index_recall_loss:.2%}",
            where=info.release_id,
            remedy="Raise `[release] flat_index_below` above the number of tracks for an exact "
            "index, or `index_recall_loss`; then clear the task.",
        )
    metrics = {**metrics, "index": asdict(report)}
    info = info.model_copy(update={"index": report.kind})
    files.write_json(folder / files.METRICS, metrics)
    files.write_json(folder / files.INFO_FILE, info.model_dump(mode="json"))
    (folder / files.CARD).write_text(model_card(info, metrics), encoding="utf-8")
