"""The one field table: every column of the lake and of the landing manifests, declared once.

Arrow schemas, the checks before each write, the validation of landing rows and
docs/tables.md all come from here.
"""

from __future__ import annotations

import pyarrow as pa

from pipeline.lake.table_spec import Field, Table

DAY = pa.date32()
TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")
REAL = pa.float64()
COUNT = pa.int64()
VECTOR = pa.list_(pa.field("element", pa.float32(), nullable=False))
COUNTS = pa.list_(pa.field("element", pa.int64(), nullable=False))
HALVES = pa.binary()

# 4 KB: the longest id a platform has been seen to use; longer ones are a broken delivery.
ID_BYTES = 4096


FIELDS: dict[str, Field] = {
    field.name if table is None else f"{table}.{field.name}": field
    for table, field in [
        # identity
        (None, Field("video_id", TEXT, "the platform's id of the video")),
        (None, Field("music_id", TEXT, "the platform's id of the track")),
        (
            "videos",
            Field(
                "music_id",
                TEXT,
                "the track the uploader picked; null for professional music videos, and where the "
                "track was deleted",
                nullable=True,
            ),
        ),
        (
            None,
            Field(
                "uploader_id",
                TEXT,
                "the platform's id of the uploader; null for professional music videos",
                nullable=True,
            ),
        ),
        ("uploader_genres", Field("uploader_id", TEXT, "the platform's id of the uploader")),
        (None, Field("segment_id", TEXT, "video_id, '#' and the segment's number")),
        (
            None,
            Field(
                "source",
                TEXT,
                "ugc: an uploader's video; pgc: a professional music video",
                one_of=("ugc", "pgc"),
            ),
        ),
        (None, Field("content_hash", TEXT, "sha256 of the file's bytes, lower-case hex")),
        (
            "quarantine",
            Field("content_hash", TEXT, "sha256 of the file, where it was read", nullable=True),
        ),
        (None, Field("sha256", TEXT, "sha256 that the file must have", nullable=True)),
        (
            None,
            Field(
                "segment",
                pa.int32(),
                "number of the segment within the file, from 0; -1 for the whole file",
                low=-1,
            ),
        ),
        (
            None,
            Field(
                "extractor",
                TEXT,
                "name@version of what made the numbers; covers everything that changes them",
            ),
        ),
        # when
        (None, Field("dt", DAY, "landing day")),
        (None, Field("uploaded_at", TIME, "time of the upload", unit="UTC")),
        (None, Field("ingested_at", TIME, "time of the ingest that wrote the row", unit="UTC")),
        (None, Field("requested_at", TIME, "time of the deletion request", unit="UTC")),
        (
            None,
            Field("as_of", DAY, "statistics over everything uploaded up to the end of this day"),
        ),
        (None, Field("finished_at", TIME, "time the step ended", unit="UTC")),
        # media
        (None, Field("media_path", TEXT, "path of the file, relative to its landing day")),
        (None, Field("duration", REAL, "presentation length", unit="s", low=0)),
        (None, Field("width", pa.int32(), "picture width, upright", unit="px", low=1)),
        (None, Field("height", pa.int32(), "picture height, upright", unit="px", low=1)),
        (None, Field("fps", REAL, "mean frame rate", unit="1/s", low=0)),
        (None, Field("start", REAL, "start of the segment, from the first frame", unit="s", low=0)),
        (None, Field("end", REAL, "end of the segment, not included", unit="s", low=0)),
        (None, Field("genre", TEXT, "the platform's genre of the track")),
        (
            None,
            Field("genre_group", TEXT, "the group of `genre` by the settings, or other"),
        ),
        (None, Field("title", TEXT, "title of the track")),
        (None, Field("artist", TEXT, "artist of the track")),
        # quarantine
        (None, Field("kind", TEXT, "what the id names", one_of=("video", "music"))),
        (
            "deletions",
            Field("kind", TEXT, "what the id names", one_of=("video", "music", "uploader")),
        ),
        (
            "deletion_requests",
            Field("kind", TEXT, "what the id names", one_of=("video", "music", "uploader")),
        ),
        (None, Field("id", TEXT, "the id in the manifest; file:row where it has none")),
        (
            None,
            Field("step", TEXT, "the step that rejected it", one_of=("ingest", "extract")),
        ),
        ("refused_days", Field("step", TEXT, "the step that refused", one_of=("ingest", "check"))),
        (None, Field("reason", TEXT, "a code of the closed set in docs/reasons.md")),
        ("refused_days", Field("reason", TEXT, "the error, as docs/reasons.md lists it")),
        (None, Field("detail", TEXT, "what exactly was wrong: file, row, field, message")),
        (None, Field("attempts", pa.int32(), "times the file was tried", low=0)),
        (None, Field("limits", TEXT, "hash of the limits under which it was tried")),
        (None, Field("failed_at", TIME, "time of the last try", unit="UTC")),
        (
            None,
            Field(
                "id_hash",
                TEXT,
                "sha256 of kind, ':' and the id: enough to refuse it, not enough to read it",
            ),
        ),
        (None, Field("request_hash", TEXT, "id_hash of the deletion request that was carried out")),
        (
            None,
            Field("item_hash", TEXT, "id_hash of one item that the request erased, or its own"),
        ),
        (
            None,
            Field(
                "content_key",
                TEXT,
                "sha256 of 'content:' and the item's content_hash; null where the same file is "
                "still in the catalogue under another id",
                nullable=True,
            ),
        ),
        (None, Field("erased_at", TIME, "time the erasure began", unit="UTC")),
        # features
        (None, Field("embedding", VECTOR, "one vector for the clip, in the extractor's blocks")),
        (None, Field("frames", pa.int32(), "frames sampled", low=1)),
        (None, Field("frame", pa.int32(), "number of the sampled frame, from 0", low=0)),
        (None, Field("time", REAL, "presentation time of the frame", unit="s")),
        (
            None,
            Field("values", HALVES, "embedding of the frame, little-endian float16"),
        ),
        ("mel_frames", Field("values", HALVES, "log-mel spectrogram, float16 [bands, frames]")),
        ("mel_frames", Field("frames", pa.int32(), "frames of the spectrogram", low=1)),
        (None, Field("bands", pa.int32(), "mel bands of the spectrogram", low=1)),
        (None, Field("decoder", TEXT, "the decoder that read the file")),
        # days and shards
        (None, Field("fingerprint", TEXT, "sha256 over the day's files and the ingest settings")),
        (None, Field("rows", COUNT, "rows of the day's manifests", low=0)),
        (None, Field("accepted", COUNT, "rows that entered the catalogue", low=0)),
        (None, Field("rejected", COUNT, "rows that entered quarantine", low=0)),
        (None, Field("visual_extractor", TEXT, "extractor of the day's pictures")),
        (None, Field("audio_extractor", TEXT, "extractor of the day's sound")),
        (None, Field("clips", COUNT, "clips of the day that have features", low=0)),
        ("extractions", Field("clips", COUNT, "clips that got features", low=0)),
        ("extractions", Field("rejected", COUNT, "clips that could not be decoded", low=0)),
        (None, Field("wall_seconds", REAL, "time from start to end", unit="s", low=0)),
        (None, Field("cpu_seconds", REAL, "processor time spent on them", unit="s", low=0)),
        (None, Field("plan", TEXT, "hash of the shard plan's content")),
        (None, Field("shard", pa.int32(), "number of the shard within its plan", low=0)),
        (
            None,
            Field("job", TEXT, "what to extract", one_of=("video", "music", "segments")),
        ),
        (None, Field("cost", REAL, "expected decode cost", unit="CPU s", low=0)),
        # confounder
        (None, Field("counts", COUNTS, "the uploader's uploads per genre group")),
        (
            None,
            Field(
                "preference",
                VECTOR,
                "smoothed genre preference: Dirichlet posterior mean, sums to 1",
            ),
        ),
        (None, Field("groups", TEXT, "the genre groups that index counts and preference, by ','")),
        # runs
        (None, Field("run_id", TEXT, "day and hash of everything that went in")),
        (None, Field("release_id", TEXT, "run_id of the run that made it")),
        (None, Field("decision", TEXT, "the gate's", one_of=("publish", "refuse", "forced"))),
        (None, Field("reasons", TEXT, "the gate's reasons, JSON")),
        (None, Field("metrics", TEXT, "metrics of challenger, champion and baselines, JSON")),
        (None, Field("inputs", TEXT, "versions of every input, JSON")),
    ]
}


FIELDS["landing_videos.music_id"] = FIELDS["videos.music_id"]


def _table(
    name: str,
    meaning: str,
    key: tuple[str, ...],
    partition_by: tuple[str, ...],
    columns: tuple[str, ...],
) -> Table:
    # `videos.music_id` and the like override a field that several tables share.
    fields = tuple(FIELDS.get(f"{name}.{column}") or FIELDS[column] for column in columns)
    return Table(name, meaning, key, partition_by, fields)


LANDING = {
    table.name: table
    for table in [
        _table(
            "landing_videos",
            "landing/dt=D/videos.{parquet,csv,jsonl}",
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
            "landing/dt=D/music.{parquet,csv,jsonl}",
            ("music_id",),
            (),
            ("music_id", "genre", "title", "artist", "media_path", "sha256"),
        ),
        _table(
            "deletion_requests",
            "landing/dt=D/deletions.{parquet,csv,jsonl}, optional",
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
        "the teacher's pairs: picture and sound of one segment of a professional music video",
        ("segment_id", "dt"),
        ("dt",),
        ("segment_id", "video_id", "content_hash", "segment", "start", "end", "dt"),
    ),
    _table(
        "quarantine",
        "every row that was delivered and is not in the catalogue, or has no features",
        ("kind", "id", "dt", "step"),
        ("dt", "step"),
        ("kind", "id", "dt", "step", "reason", "detail", "content_hash", "attempts"),
    ),
    _table(
        "failures",
        "files that could not be extracted, for as long as they cannot",
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
        "deletion requests, kept as hashes so that the lake forgets the id itself",
        ("kind", "id_hash"),
        (),
        ("kind", "id_hash", "requested_at", "dt"),
    ),
    _table(
        "erasures",
        "what was erased, as hashes: enough to prove that nothing is left of it",
        ("request_hash", "item_hash"),
        (),
        ("request_hash", "item_hash", "content_key", "erased_at"),
    ),
    _table(
        "landing_days",
        "one row a landing day ingested: what it held when it was read",
        ("dt",),
        ("dt",),
        ("dt", "fingerprint", "rows", "accepted", "rejected", "finished_at"),
    ),
    _table(
        "refused_days",
        "days that were refused and not accepted since; each is tried again when its delivery "
        "changes, or by hand",
        ("dt",),
        ("dt",),
        ("dt", "fingerprint", "step", "reason", "detail", "finished_at"),
    ),
    _table(
        "shards",
        "extraction plans: which clip is extracted by which shard",
        ("plan", "content_hash", "job"),
        ("plan",),
        ("plan", "shard", "job", "content_hash", "dt", "media_path", "duration", "cost"),
    ),
    _table(
        "visual_features",
        "one vector for the pictures of a clip",
        ("content_hash", "segment", "extractor"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "embedding", "frames", "decoder", "dt"),
    ),
    _table(
        "visual_frames",
        "the embedding of every sampled frame",
        ("content_hash", "segment", "extractor", "frame"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "frame", "time", "values", "dt"),
    ),
    _table(
        "audio_features",
        "one vector for the sound of a clip",
        ("content_hash", "segment", "extractor"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "embedding", "decoder", "dt"),
    ),
    _table(
        "mel_frames",
        "the log-mel spectrogram of a clip",
        ("content_hash", "segment", "extractor"),
        ("extractor", "dt"),
        ("content_hash", "segment", "extractor", "bands", "frames", "values", "dt"),
    ),
    _table(
        "feature_days",
        "one row a day whose every clip has features or a place in quarantine",
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
        "one row a run of a shard that decoded something: how fast it was",
        ("plan", "shard", "finished_at"),
        (),
        ("plan", "shard", "clips", "rejected", "cpu_seconds", "wall_seconds", "finished_at"),
    ),
    _table(
        "uploader_genres",
        "the confounder: each uploader's genre preference",
        ("uploader_id", "as_of"),
        ("as_of",),
        ("uploader_id", "as_of", "groups", "counts", "preference"),
    ),
    _table(
        "runs",
        "one row a retraining: what went in, what came out, what the gate decided and why",
        ("run_id",),
        (),
        ("run_id", "as_of", "finished_at", "decision", "reasons", "metrics", "inputs"),
    ),
]

TABLES: dict[str, Table] = {table.name: table for table in _LAKE_TABLES}
