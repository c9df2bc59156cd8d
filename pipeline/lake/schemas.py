"""Declares every column of the lake's tables and of the manifests, once.

Arrow schemas, the checks before each write, the validation of manifest rows and docs/tables.md are
made from these declarations.
"""

from __future__ import annotations

import pyarrow as pa

from pipeline.lake.codes import IdKind, Source
from pipeline.lake.table_spec import Field, Table

DAY = pa.date32()
TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")
REAL = pa.float64()
COUNT = pa.int64()
VECTOR = pa.list_(pa.field("element", pa.float32(), nullable=False))
COUNTS = pa.list_(pa.field("element", pa.int64(), nullable=False))
HALVES = pa.binary()

# Longest text of a manifest field. Real platforms use ids of up to 4 KB; longer ones are damaged.
ID_BYTES = 4096


_SHARED_FIELDS = [
    # identity
    Field("video_id", TEXT, "the platform's id of the video"),
    Field("music_id", TEXT, "the platform's id of the track"),
    Field(
        "uploader_id",
        TEXT,
        "the platform's id of the uploader; null for professional music videos",
        nullable=True,
    ),
    Field("segment_id", TEXT, "video_id, '#' and the segment's number"),
    Field(
        "source",
        TEXT,
        "ugc: an uploader's video; pgc: a professional music video",
        one_of=tuple(source.value for source in Source),
    ),
    Field("content_hash", TEXT, "sha256 of the file's bytes, lower-case hex"),
    Field("sha256", TEXT, "expected sha256 of the file's bytes", nullable=True),
    Field(
        "segment",
        pa.int32(),
        "number of the segment in the file, from 0; -1 for the whole file",
        low=-1,
    ),
    Field(
        "extractor",
        TEXT,
        "name@version of the extractor; the version covers all that changes the features",
    ),
    # when
    Field("dt", DAY, "landing day"),
    Field("uploaded_at", TIME, "time of the upload", unit="UTC"),
    Field("ingested_at", TIME, "time of the ingest that wrote the row", unit="UTC"),
    Field("requested_at", TIME, "time of the deletion request", unit="UTC"),
    Field("as_of", DAY, "day of the statistics, which cover all uploads up to its end"),
    Field("finished_at", TIME, "end of the step", unit="UTC"),
    # media
    Field("media_path", TEXT, "path of the file, relative to the landing day"),
    Field("duration", REAL, "duration of the presentation", unit="s", low=0),
    Field("width", pa.int32(), "width of the upright picture", unit="px", low=1),
    Field("height", pa.int32(), "height of the upright picture", unit="px", low=1),
    Field("fps", REAL, "mean frame rate", unit="1/s", low=0),
    Field("start", REAL, "start of the segment, from the first frame", unit="s", low=0),
    Field("end", REAL, "end of the segment (exclusive)", unit="s", low=0),
    Field("genre", TEXT, "the platform's genre of the track"),
    Field("genre_group", TEXT, "group of `genre` in the settings, or `other`"),
    Field("title", TEXT, "title of the track"),
    Field("artist", TEXT, "artist of the track"),
    # quarantine
    Field("kind", TEXT, "what the id names", one_of=(IdKind.VIDEO.value, IdKind.MUSIC.value)),
    Field("id", TEXT, "the id in the manifest; file:row if the row has none"),
    Field("step", TEXT, "the step that rejected it", one_of=("ingest", "extract")),
    Field("reason", TEXT, "reason code of docs/reasons.md"),
    Field("detail", TEXT, "what was wrong and where: file, row, field, message"),
    Field("attempts", pa.int32(), "number of attempts", low=0),
    Field("limits", TEXT, "hash of the limits of the last attempt"),
    Field("failed_at", TIME, "time of the last attempt", unit="UTC"),
    Field("id_hash", TEXT, "sha256 of kind, ':' and the id: recognises the id without storing it"),
    Field("request_hash", TEXT, "id_hash of the deletion request"),
    Field(
        "item_hash",
        TEXT,
        "id_hash of one item that the request erased, or of the request itself; content_key of a "
        "rejected video without an id of its own",
    ),
    Field(
        "content_key",
        TEXT,
        "sha256 of 'content:' and the item's content_hash; null if the same file is still in the "
        "catalogue under another id",
        nullable=True,
    ),
    Field("erased_at", TIME, "start of the erasure", unit="UTC"),
    # features
    Field("embedding", VECTOR, "features of the clip: the concatenated blocks of the extractor"),
    Field("frames", pa.int32(), "number of sampled frames", low=1),
    Field("frame", pa.int32(), "number of the sampled frame, from 0", low=0),
    Field("time", REAL, "presentation time of the frame", unit="s"),
    Field("values", HALVES, "embedding of the frame: float16, little-endian"),
    Field("bands", pa.int32(), "number of mel bands of the spectrogram", low=1),
    Field("decoder", TEXT, "the decoder that read the file"),
    # days and shards
    Field("fingerprint", TEXT, "sha256 over the day's files and the settings of ingest"),
    Field("rows", COUNT, "rows of the day's manifests", low=0),
    Field("accepted", COUNT, "rows that were accepted into the catalogue", low=0),
    Field("rejected", COUNT, "rows that were quarantined", low=0),
    Field("visual_extractor", TEXT, "visual extractor of the day's features"),
    Field("audio_extractor", TEXT, "audio extractor of the day's features"),
    Field("clips", COUNT, "clips of the day that have features", low=0),
    Field("wall_seconds", REAL, "elapsed time", unit="s", low=0),
    Field("cpu_seconds", REAL, "processor time of the decoding processes", unit="s", low=0),
    Field("plan", TEXT, "hash of the shard plan"),
    Field("shard", pa.int32(), "number of the shard in its plan", low=0),
    Field("job", TEXT, "what to extract from the file", one_of=("video", "music", "segments")),
    Field("cost", REAL, "expected decode cost", unit="CPU s", low=0),
    # confounder
    Field("counts", COUNTS, "number of the uploader's uploads per genre group"),
    Field("preference", VECTOR, "smoothed genre preference: Dirichlet posterior mean, sums to 1"),
    Field(
        "groups",
        TEXT,
        "names of the genre groups of counts and preference, in order, separated by ','",
    ),
    # runs
    Field("run_id", TEXT, "day, and hash of all inputs"),
    Field("decision", TEXT, "decision of the gate", one_of=("publish", "refuse", "forced")),
    Field("reasons", TEXT, "reasons of the decision, JSON"),
    Field("metrics", TEXT, "metrics of challenger, champion and baselines, JSON"),
    Field("inputs", TEXT, "version of every input, JSON"),
]
_PICK = Field(
    "music_id",
    TEXT,
    "the track that the uploader picked; null for professional music videos, and after the "
    "track's deletion",
    nullable=True,
)
_DELETION_KIND = Field("kind", TEXT, "what the id names", one_of=tuple(k.value for k in IdKind))
# Fields that replace the shared field of the same name in one table.
_OWN_FIELDS = {
    "landing_videos": [_PICK],
    "videos": [_PICK],
    "uploader_genres": [Field("uploader_id", TEXT, "the platform's id of the uploader")],
    "quarantine": [
        Field(
            "content_hash",
            TEXT,
            "sha256 of the file's bytes; null if it was not read",
            nullable=True,
        ),
        Field(
            "uploader_id",
            TEXT,
            "uploader of the rejected video; null for tracks and professional music videos, if the "
            "row's uploader could not be read, and in rows that were written without this column",
            nullable=True,
        ),
    ],
    "deletions": [_DELETION_KIND],
    "deletion_requests": [_DELETION_KIND],
    "refused_days": [
        Field("step", TEXT, "the step that refused the day", one_of=("ingest", "check")),
        Field("reason", TEXT, "name of the error in docs/reasons.md"),
    ],
    "mel_frames": [
        Field(
            "values", HALVES, "log-mel spectrogram: float16, little-endian, shape [bands, frames]"
        ),
        Field("frames", pa.int32(), "number of frames of the spectrogram", low=1),
    ],
    "extractions": [
        Field("clips", COUNT, "clips that were extracted", low=0),
        Field("rejected", COUNT, "clips that could not be decoded", low=0),
    ],
}
_FIELDS = {
    **{("", field.name): field for field in _SHARED_FIELDS},
    **{(table, field.name): field for table, own in _OWN_FIELDS.items() for field in own},
}


def _table(
    name: str,
    meaning: str,
    key: tuple[str, ...],
    partition_by: tuple[str, ...],
    columns: tuple[str, ...],
) -> Table:
    fields = tuple(_FIELDS.get((name, column)) or _FIELDS["", column] for column in columns)
    return Table(name, meaning, key, partition_by, fields)


LANDING = {
    table.name: table
    for table in [
        _table(
            "landing_videos",
            "manifest of videos: `dt=D/videos.{parquet,csv,jsonl}`",
            ("video_id",),
            (),
            (
                "video_id",
                "uploader_id",
                "music_id",
                "source",
                "uploaded_at",
                "media_path",
                "sha256",
            ),
        ),
        _table(
            "landing_music",
            "manifest of tracks: `dt=D/music.{parquet,csv,jsonl}`",
            ("music_id",),
            (),
            ("music_id", "genre", "title", "artist", "media_path", "sha256"),
        ),
        _table(
            "deletion_requests",
            "manifest of deletion requests, optional: `dt=D/deletions.{parquet,csv,jsonl}`",
            ("kind", "id"),
            (),
            ("kind", "id", "requested_at"),
        ),
    ]
}

_LAKE_TABLES = [
    _table(
        "videos",
        "the catalogue of videos; an id belongs to the earliest day that delivered it",
        ("video_id", "dt"),
        ("dt",),
        (
            "video_id",
            "uploader_id",
            "music_id",
            "source",
            "uploaded_at",
            "dt",
            "content_hash",
            "media_path",
            "duration",
            "width",
            "height",
            "fps",
            "ingested_at",
        ),
    ),
    _table(
        "music",
        "the catalogue of tracks; an id belongs to the earliest day that delivered it",
        ("music_id", "dt"),
        ("dt",),
        (
            "music_id",
            "genre",
            "genre_group",
            "title",
            "artist",
            "content_hash",
            "media_path",
            "duration",
            "dt",
            "ingested_at",
        ),
    ),
    _table(
        "segments",
        "segments of professional music videos: the teacher learns from their pictures and sound",
        ("segment_id", "dt"),
        ("dt",),
        ("segment_id", "video_id", "content_hash", "segment", "start", "end", "dt"),
    ),
    _table(
        "quarantine",
        "every delivered row that is not in the catalogue or has no features",
        ("kind", "id", "dt", "step"),
        ("dt", "step"),
        (
            "kind",
            "id",
            "dt",
            "step",
            "reason",
            "detail",
            "content_hash",
            "attempts",
            "uploader_id",
        ),
    ),
    _table(
        "failures",
        "files that could not be extracted; a row is removed when the file succeeds",
        ("content_hash", "job", "extractor"),
        ("extractor",),
        (
            "content_hash",
            "job",
            "extractor",
            "reason",
            "detail",
            "attempts",
            "limits",
            "failed_at",
        ),
    ),
    _table(
        "deletions",
        "deletion requests; ids are kept only as hashes",
        ("kind", "id_hash"),
        (),
        ("kind", "id_hash", "requested_at", "dt"),
    ),
    _table(
        "erasures",
        "erased items, as hashes, which prove later that nothing is left of them",
        ("request_hash", "item_hash"),
        (),
        ("request_hash", "item_hash", "content_key", "erased_at"),
    ),
    _table(
        "landing_days",
        "one row per ingested landing day: its content when it was read",
        ("dt",),
        ("dt",),
        ("dt", "fingerprint", "rows", "accepted", "rejected", "finished_at"),
    ),
    _table(
        "refused_days",
        "days that were refused and not accepted since; a day is tried again when its files "
        "change, if the machine can be the cause, or by hand",
        ("dt",),
        ("dt",),
        ("dt", "fingerprint", "step", "reason", "detail", "finished_at"),
    ),
    _table(
        "shards",
        "extraction plans: the clips of each shard",
        ("plan", "content_hash", "job"),
        ("plan",),
        ("plan", "shard", "job", "content_hash", "dt", "media_path", "duration", "cost"),
    ),
    _table(
        "visual_features",
        "visual features: one vector per clip",
        ("content_hash", "segment", "extractor"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "embedding", "frames", "decoder", "dt"),
    ),
    _table(
        "visual_frames",
        "visual features: the embedding of every sampled frame",
        ("content_hash", "segment", "extractor", "frame"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "frame", "time", "values", "dt"),
    ),
    _table(
        "audio_features",
        "audio features: one vector per clip",
        ("content_hash", "segment", "extractor"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "embedding", "decoder", "dt"),
    ),
    _table(
        "mel_frames",
        "audio features: the log-mel spectrogram of a clip",
        ("content_hash", "segment", "extractor"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "bands", "frames", "values", "dt"),
    ),
    _table(
        "feature_days",
        "one row per day whose clips all have features or are quarantined",
        ("dt", "visual_extractor", "audio_extractor"),
        ("dt",),
        (
            "dt",
            "visual_extractor",
            "audio_extractor",
            "clips",
            "rejected",
            "finished_at",
        ),
    ),
    _table(
        "extractions",
        "one row per execution of a shard that decoded files: its speed",
        ("plan", "shard", "finished_at"),
        (),
        ("plan", "shard", "clips", "rejected", "cpu_seconds", "wall_seconds", "finished_at"),
    ),
    _table(
        "uploader_genres",
        "the confounder: genre preference of each uploader",
        ("uploader_id", "as_of"),
        ("as_of",),
        ("uploader_id", "as_of", "groups", "counts", "preference"),
    ),
    _table(
        "runs",
        "one row per run: inputs, metrics, and the gate's decision with its reasons",
        ("run_id",),
        (),
        ("run_id", "as_of", "finished_at", "decision", "reasons", "metrics", "inputs"),
    ),
]

TABLES: dict[str, Table] = {table.name: table for table in _LAKE_TABLES}
