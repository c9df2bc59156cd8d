"""Serves a release: ranks music for a new video file, for its features, or for a known video.

    from debcm import Release

    release = Release.open("/srv/debcm/lake")
    for hit in release.recommend("clip.mp4", top=10):
        print(hit.title, hit.score)

Needs only the files of the release: no lake, no training code, no torch. Many threads may use one
`Release` at once. An open `Release` does not change when another one becomes current.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from features import ClipFeatures, Job, JobKind, Limits, MediaError, MediaPool, VisualConfig
from features.arrays import BoolArray, Float32Array, Int64Array
from features.networks.extractor_name import extractor_name
from pipeline.errors import PUBLISH_FIRST, ProvenanceError, ReleaseError
from pipeline.releases import files, index
from pipeline.releases.files import ReleaseInfo, read_release_info, read_table, read_vectors
from pipeline.releases.onnx_towers import VIDEO_TOWER, feature_count, open_tower, run_tower
from pipeline.storage.folder import CHECKSUMS, verify_checksums

log = logging.getLogger(__name__)

_RELEASES = "releases"
_POINTER = "current.json"


@dataclass(frozen=True)
class Recommendation:
    """One track recommended for a video.

    Attributes:
        rank: 1 is the best.
        music_id: the platform's id of the track.
        title: title of the track.
        artist: artist of the track.
        genre: the platform's genre.
        genre_group: group of the genre.
        score: debiased score, by which tracks are ranked: `unadjusted` - `taken_away`.
        unadjusted: score before debiasing; it includes the effect of uploaders' habits (genre
            preference, popularity).
        taken_away: the effect of uploaders' habits; negative if they disfavour the track.
    """

    rank: int
    music_id: str
    title: str
    artist: str
    genre: str
    genre_group: str
    score: float
    unadjusted: float
    taken_away: float


class Release:
    """A release in memory. Open it with `Release.open`, which verifies the checksums.

    Attributes:
        folder: folder of the release.
        info: content of the release's manifest.json.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: ReleaseInfo = read_release_info(folder)
        run_id = self.info.run_id
        music = read_table(folder / files.MUSIC, run_id, list(files.MUSIC_TEXTS))
        self._texts = music.combine_chunks()
        self._adjusted = read_vectors(folder / files.MUSIC, run_id, "embedding")
        self._unadjusted = read_vectors(folder / files.MUSIC, run_id, "unadjusted")
        self._row_of = {name: row for row, name in enumerate(music["music_id"].to_pylist())}
        self._genre = _TextColumn.encode(music["genre"])
        self._group = _TextColumn.encode(music["genre_group"])
        videos = read_table(folder / files.VIDEO, run_id, ["video_id"])
        self._videos = read_vectors(folder / files.VIDEO, run_id, "embedding")
        self._video_row = {name: row for row, name in enumerate(videos["video_id"].to_pylist())}
        self._index = index.read_index(folder / files.INDEX)
        if self._index.ntotal != len(self._adjusted) or self._index.d != self.info.dim:
            raise ReleaseError(
                f"the index holds {self._index.ntotal} vectors of {self._index.d} dimensions, "
                f"music.parquet {len(self._adjusted)} of {self.info.dim}",
                where=str(folder / files.INDEX),
            )
        self._tower = open_tower(folder, VIDEO_TOWER, run_id)

    @classmethod
    def open(cls, path: str | Path) -> Release:
        """Open a release.

        Args:
            path: the folder of one release; or the lake's root or its `releases` folder, which
                opens the current release.

        Raises:
            ReleaseError: there is no release, it is damaged, or its files are of different runs.
            ProvenanceError: a file is missing or differs from its checksum.
        """
        path = _local_path(path)
        if any((path / name).is_file() for name in (files.INFO_FILE, CHECKSUMS)):
            return cls._open_verified(path)
        name = current_release(path)
        while True:
            try:
                return cls._open_verified(_releases_folder(path) / name)
            except (OSError, ReleaseError, ProvenanceError):
                # The release may have been removed after the pointer was read.
                newer = current_release(path)
                if newer == name:
                    raise
                name = newer

    @classmethod
    def _open_verified(cls, folder: Path) -> Release:
        # A flipped bit in an embedding would silently change the ranking.
        verify_checksums(folder)
        return cls(folder)

    @property
    def manifest(self) -> ReleaseInfo:
        """The former name of `info`."""
        return self.info

    @property
    def release_id(self) -> str:
        """Id of this release."""
        return self.info.release_id

    @property
    def video_ids(self) -> list[str]:
        """Ids of the videos that `recommend_known` accepts."""
        return list(self._video_row)

    def recommend(
        self,
        video: str | Path,
        *,
        top: int = 10,
        genre: str | None = None,
        exclude: Iterable[str] = (),
    ) -> list[Recommendation]:
        """Rank music for a new video file.

        Args:
            video: the file. It is decoded in a child process, under the release's limits.
            top: number of tracks.
            genre: restricts the tracks to this genre or genre group.
            exclude: ids of tracks that are left out.

        Raises:
            MediaError: the file cannot be decoded, or exceeds a limit.
            ProvenanceError: this machine's extractor is not the release's.
            ReleaseError: the genre is unknown.
        """
        return self.search(self.embed(self.extract(video)), top=top, genre=genre, exclude=exclude)

    def recommend_known(
        self,
        video_id: str,
        *,
        top: int = 10,
        genre: str | None = None,
        exclude: Iterable[str] = (),
    ) -> list[Recommendation]:
        """Rank music for a video of the release.

        Args:
            video_id: the platform's id of the video.
            top: number of tracks.
            genre: restricts the tracks to this genre or genre group.
            exclude: ids of tracks that are left out.

        Raises:
            ReleaseError: the release does not contain the video, or the genre is unknown.
        """
        return self.search(self.embedding(video_id), top=top, genre=genre, exclude=exclude)

    def embedding(self, video_id: str) -> Float32Array:
        """Return the embedding of a video of the release, float32 [D].

        Raises:
            ReleaseError: the release does not contain the video.
        """
        row = self._video_row.get(video_id)
        if row is None:
            raise ReleaseError(
                f"no video {video_id!r} in the release",
                where=self.release_id,
                remedy="Give the video's file instead, which need not be in the release.",
            )
        embedding: Float32Array = self._videos[row]
        return embedding

    def extract(self, video: str | Path) -> Float32Array:
        """Extract the features of a new video file, float32 [Dv].

        Raises:
            MediaError: the file cannot be decoded, or exceeds a limit.
            ProvenanceError: this machine's extractor is not the release's.
        """
        try:
            visual = VisualConfig.model_validate(self.info.visual)
            limits = Limits.model_validate(self.info.limits)
        except ValidationError as error:
            raise ProvenanceError(
                f"this version cannot extract {self.info.visual_extractor}: {error}",
                where=self.release_id,
            ) from error
        self._check_extractor(extractor_name(visual))
        job = Job(str(video), Path(video), JobKind.VIDEO)
        with MediaPool(1, limits, visual, None) as pool:
            _, outcome = next(iter(pool.run([job])))
        if isinstance(outcome, MediaError):
            raise outcome
        assert isinstance(outcome, ClipFeatures)
        return outcome.visual[0].embedding

    def embed(self, features: Float32Array, extractor: str | None = None) -> Float32Array:
        """Embed the features of a video.

        Args:
            features: float32 [Dv], extracted by `info.visual_extractor`.
            extractor: the extractor that made them. If given, it is checked.

        Returns:
            float32 [D].

        Raises:
            ProvenanceError: the features are of another extractor.
            ReleaseError: the features have another dimension.
        """
        if extractor is not None:
            self._check_extractor(extractor)
        expected = feature_count(self._tower)
        if features.ndim != 1 or len(features) != expected:
            raise ReleaseError(
                f"features must have shape ({expected},), got {features.shape}",
                where=self.release_id,
                remedy="Give the features that `Release.extract` returns.",
            )
        embedding: Float32Array = run_tower(self._tower, features[None].astype(np.float32))[0]
        return embedding

    def search(
        self,
        embedding: Float32Array,
        *,
        top: int = 10,
        genre: str | None = None,
        exclude: Iterable[str] = (),
    ) -> list[Recommendation]:
        """Rank music for an embedding.

        Args:
            embedding: float32 [D], by this release's video tower.
            top: number of tracks.
            genre: restricts the tracks to this genre or genre group.
            exclude: ids of tracks that are left out.

        Raises:
            ReleaseError: the genre is unknown, or the embedding has another dimension.
        """
        if embedding.shape != (self.info.dim,):
            raise ReleaseError(
                f"embedding must have shape ({self.info.dim},), got {embedding.shape}",
                where=self.release_id,
                remedy="Give an embedding of this release.",
            )
        allowed = self._allowed(genre, exclude)
        available = len(self._adjusted) if allowed is None else int(allowed.sum())
        top = min(top, available)
        if top < 1:
            return []
        rows = index.search(self._index, embedding[None], top, allowed)[0][0]
        # An approximate index may find too few tracks if a filter allows only a few.
        if rows[-1] < 0:
            rows = self._exact_search(embedding, top, allowed)
        return self._recommendations(rows, 1, embedding)

    def explain(self, embedding: Float32Array, music_id: str) -> Recommendation:
        """Return the score of one track, its parts, and its rank among all tracks.

        Args:
            embedding: float32 [D], of a video.
            music_id: the platform's id of the track.

        Raises:
            ReleaseError: the release does not contain the track.
        """
        row = self._row_of.get(music_id)
        if row is None:
            raise ReleaseError(
                f"no track {music_id!r} in the release",
                where=self.release_id,
                remedy="Give an id of column music_id in the release's music.parquet.",
            )
        scores = self._adjusted @ embedding
        rank = 1 + int((scores > scores[row]).sum())
        return self._recommendations(np.array([row]), rank, embedding)[0]

    def _recommendations(
        self, rows: Int64Array, first_rank: int, embedding: Float32Array
    ) -> list[Recommendation]:
        texts = self._texts.take(rows).to_pylist()
        scores = (self._adjusted[rows] @ embedding).tolist()
        unadjusted = (self._unadjusted[rows] @ embedding).tolist()
        return [
            Recommendation(rank, **text, score=score, unadjusted=raw, taken_away=raw - score)
            for rank, (text, score, raw) in enumerate(
                zip(texts, scores, unadjusted, strict=True), first_rank
            )
        ]

    def _allowed(self, genre: str | None, exclude: Iterable[str]) -> BoolArray | None:
        excluded = [row for name in exclude if (row := self._row_of.get(name)) is not None]
        if genre is None and not excluded:
            return None
        allowed = np.ones(len(self._adjusted), dtype=np.bool_)
        if genre is not None:
            wanted = genre.strip().lower()
            allowed = self._genre.equals(wanted) | self._group.equals(wanted)
            if not allowed.any():
                raise ReleaseError(
                    f"no genre or genre group {genre!r}; groups: {', '.join(self._group.names)}",
                    where=self.release_id,
                    remedy="Give one of these groups, or a genre as in the deliveries.",
                )
        allowed[excluded] = False
        return allowed

    def _exact_search(
        self, embedding: Float32Array, top: int, allowed: BoolArray | None
    ) -> Int64Array:
        rows = np.flatnonzero(allowed) if allowed is not None else np.arange(len(self._adjusted))
        order = np.argsort(-(self._adjusted[rows] @ embedding), kind="stable")[:top]
        return rows[order]

    def _check_extractor(self, found: str) -> None:
        expected = self.info.visual_extractor
        if found != expected:
            raise ProvenanceError(
                f"the features are of {found}, but the release reads those of {expected}",
                where=self.release_id,
            )


@dataclass(frozen=True)
class _TextColumn:
    """A text column in lower case, encoded as integers for fast comparison.

    Attributes:
        names: the distinct texts.
        codes: int64 [rows], index into `names`.
    """

    names: tuple[str, ...]
    codes: Int64Array

    @classmethod
    def encode(cls, column: pa.ChunkedArray) -> _TextColumn:
        names, codes = np.unique(
            np.array([text.strip().lower() for text in column.to_pylist()], dtype=object),
            return_inverse=True,
        )
        return cls(tuple(names.tolist()), codes.astype(np.int64))

    def equals(self, name: str) -> BoolArray:
        found: BoolArray = self.codes == (self.names.index(name) if name in self.names else -1)
        return found


def current_release(path: str | Path) -> str:
    """Read the id of the current release.

    It reads one small file, so that a server can call it every few seconds.

    Args:
        path: the lake's root or its `releases` folder.

    Raises:
        ReleaseError: no release has been published, or the pointer file is damaged.
    """
    pointer = _releases_folder(_local_path(path)) / _POINTER
    try:
        return str(json.loads(pointer.read_text(encoding="utf-8"))["release_id"])
    except FileNotFoundError as error:
        raise ReleaseError(
            "no release has been published", where=str(pointer), remedy=PUBLISH_FIRST
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"damaged pointer: {error}", where=str(pointer)) from error


def _local_path(path: str | Path) -> Path:
    if "://" in str(path):
        raise ReleaseError(
            "expected a local folder",
            where=str(path),
            remedy="For a lake in object storage, open the folder returned by "
            "`Store(load_settings().lake).fetch('releases/ID')`.",
        )
    return Path(path)


def _releases_folder(path: Path) -> Path:
    return path if (path / _POINTER).is_file() else path / _RELEASES
