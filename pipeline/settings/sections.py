"""Defines the sections of the settings: each field's type, range, default and meaning."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from features.config import AudioConfig, VisualConfig
from pipeline.settings.values import (
    GENRE_GROUPS,
    ConnectionString,
    DailyCron,
    Folder,
    FolderOrS3,
    MailAddress,
    ProperShare,
    Share,
    Text,
    WebAddress,
)

# Options that all three S3 clients understand: deltalake, pyarrow and boto3.
_STORAGE_OPTIONS = ("aws_endpoint_url", "aws_region", "aws_allow_http")


class Section(BaseModel):
    """A section of the settings: frozen, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class LakeSettings(Section):
    """Location of the tables, runs and releases."""

    root: FolderOrS3 = Field(
        "lake",
        min_length=1,
        description="folder, or s3://bucket/prefix; the first ingest creates the folder, but "
        "refuses an empty one, which may be a disk that is not mounted",
    )
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        description="for object storage: aws_endpoint_url, aws_region, aws_allow_http; an endpoint "
        'without TLS (http://) also needs aws_allow_http = "true"; set credentials in the '
        "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), not here",
    )
    keep_versions_days: float = Field(
        7,
        ge=0,
        le=3650,
        description="days before upkeep removes old table versions; a read that takes longer "
        "fails, so use 0 only while nothing else reads the lake",
    )
    commit_attempts: int = Field(
        20,
        ge=1,
        le=1000,
        description="attempts of a commit that conflicts with other writers",
    )

    @field_validator("storage_options")
    @classmethod
    def _known_options(cls, options: dict[str, str]) -> dict[str, str]:
        for name in options.keys() - set(_STORAGE_OPTIONS):
            raise ValueError(f"{name}: unknown; the options are {', '.join(_STORAGE_OPTIONS)}")
        return options

    @model_validator(mode="after")
    def _http_is_allowed(self) -> LakeSettings:
        # deltalake would refuse the endpoint with an error that names no setting.
        options = self.storage_options
        endpoint = options.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL", "")
        allowed = options.get("aws_allow_http") or os.environ.get("AWS_ALLOW_HTTP", "")
        remote = self.root.startswith("s3://") and endpoint.startswith("http://")
        if remote and allowed.lower() not in {"true", "1"}:
            raise ValueError(
                f"the endpoint {endpoint} has no TLS: use one that begins with https://, or set "
                'storage_options = {aws_allow_http = "true", ...}'
            )
        return self


class LandingSettings(Section):
    """The landing folder and the limits for its rows."""

    root: Folder = Field(
        Path("landing"), description="local folder of the landing days dt=YYYY-MM-DD"
    )
    wait_hours: float = Field(
        6, ge=0, le=168, description="hours the nightly run waits for `_SUCCESS`"
    )
    reject_share: Share = Field(
        0.25,
        description="share of a day's rows that may be rejected, repeated and deleted rows not "
        "counted; above it the day fails",
    )
    clock_tolerance_hours: float = Field(
        24,
        ge=0,
        le=8760,
        description="hours by which uploaded_at may be after the end of the landing day",
    )
    lookback_days: int = Field(
        7,
        ge=1,
        le=366,
        description="number of past landing days that each night checks for late changes",
    )


class GenreSettings(Section):
    """Groups of genres; a genre without a group belongs to `other`."""

    groups: dict[str, list[str]] = Field(
        default=GENRE_GROUPS,
        min_length=1,
        description="group -> genres; upper and lower case are equal",
    )

    @field_validator("groups")
    @classmethod
    def _each_genre_once(cls, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        for group, members in groups.items():
            if not group.strip() or "," in group or group.strip().lower() == "other":
                raise ValueError(f"{group!r} cannot name a group: 'other' and ',' are reserved")
            if not members:
                raise ValueError(f"group {group!r} has no genres")
            if group != group.strip():
                raise ValueError(f"{group!r} cannot name a group: remove the blanks around it")
        folded = [group.casefold() for group in groups]
        alike = [group for group in groups if folded.count(group.casefold()) > 1]
        if alike:
            raise ValueError(
                f"groups that differ only in upper and lower case: {', '.join(alike)}; write one "
                "group with the genres of all"
            )
        genres = [_normalised(genre) for members in groups.values() for genre in members]
        twice = sorted({genre for genre in genres if genres.count(genre) > 1})
        if twice:
            raise ValueError(f"genres that are listed more than once: {', '.join(twice)}")
        return groups

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The groups in the order of a preference vector's entries; `other` is last."""
        return (*self.groups, "other")

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {
            _normalised(genre): group for group, members in self.groups.items() for genre in members
        }

    def group(self, genre: str) -> str:
        """Return the group of a genre, or `other`."""
        return self._group_of.get(_normalised(genre), "other")


class ExtractSettings(Section):
    """Division of a day's clips into shards, and their extraction."""

    workers: int = Field(2, ge=1, le=256, description="decoding processes per task")
    shard_cpu_seconds: float = Field(
        600,
        gt=0,
        le=86_400,
        description="expected decode cost of a shard; start-up takes less than 5 % of it",
    )
    max_shards: int = Field(
        64,
        ge=1,
        le=1024,
        description="largest number of shards per day; a larger day has larger shards",
    )
    commit_clips: int = Field(
        200,
        ge=1,
        le=100_000,
        description="clips per commit; a killed shard loses at most so many",
    )
    max_attempts: int = Field(2, ge=1, le=100, description="total attempts for a file that fails")
    visual_frames: bool = Field(
        True,
        description="whether table visual_frames is written; the pipeline itself does not read it",
    )
    mel_frames: bool = Field(
        True,
        description="whether table mel_frames is written; the pipeline itself does not read it",
    )
    segment_seconds: float = Field(
        10, gt=0, le=600, description="length of a segment of a professional music video"
    )
    min_segment_seconds: float = Field(
        3, gt=0, le=600, description="a shorter last segment is dropped"
    )

    @model_validator(mode="after")
    def _segments_can_be_cut(self) -> ExtractSettings:
        if self.min_segment_seconds > self.segment_seconds:
            raise ValueError(
                "min_segment_seconds is above segment_seconds: no segment would be valid"
            )
        return self


class CandidateExtractor(Section):
    """An extractor that a backfill can run in addition to the current one."""

    visual: VisualConfig | None = Field(
        None, description="replaces [visual]; none: same as current"
    )
    audio: AudioConfig | None = Field(None, description="replaces [audio]; none: same as current")

    @model_validator(mode="after")
    def _differs(self) -> CandidateExtractor:
        if self.visual is None and self.audio is None:
            raise ValueError(
                "neither visual nor audio is set: the candidate equals the current one"
            )
        return self


class SplitSettings(Section):
    """Split of the picks by upload time: train, then validation, then test."""

    validation_share: ProperShare = Field(
        0.1, description="share of the picks: the newest before the test rows"
    )
    test_share: ProperShare = Field(0.1, description="share of the picks: the newest")

    @model_validator(mode="after")
    def _room_for_training(self) -> SplitSettings:
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("validation_share + test_share leave too few rows for training")
        return self


class GateSettings(Section):
    """Rules that a challenger must pass before it is published."""

    min_test_rows: int = Field(
        50, ge=1, description="smallest number of test rows for a publication"
    )
    bootstrap_rounds: int = Field(
        1000, ge=100, le=1_000_000, description="rounds of the paired bootstrap"
    )
    recall_k: int = Field(10, ge=1, le=1000, description="K of recall@K")
    champion_loss: Share = Field(
        0.05, description="largest loss of recall against the champion, as a share of its recall"
    )
    slice_loss: Share = Field(
        0.2, description="largest loss of recall in one slice, as a share of the champion's"
    )
    slice_rows: int = Field(
        50, ge=1, description="smallest number of rows of a slice that is compared"
    )
    calibration_worsening: float = Field(
        0.1, ge=0, description="largest increase of the genre calibration error (KL), in nats"
    )
    max_calibration: float = Field(
        1.0, gt=0, description="largest genre calibration error (KL), in nats"
    )
    min_coverage: Share = Field(
        0.1,
        description="smallest catalogue coverage, as a share of the coverage of random lists",
    )
    min_spread: Share = Field(
        0.01,
        description="smallest 1 - squared length of the mean unit embedding (0: all embeddings "
        "have one direction)",
    )
    max_norm_ratio: float = Field(
        100.0, gt=1, description="largest norm of an embedding, divided by the median norm"
    )


class ReleaseSettings(Section):
    """Content, sinks and retention of releases."""

    flat_index_below: int = Field(
        200_000,
        ge=1,
        description="number of tracks below which the index is exact (flat); above: HNSW",
    )
    index_recall_loss: Share = Field(
        0.01, description="largest loss of recall@10 of an HNSW index against exact search"
    )
    keep: int = Field(14, ge=2, le=10_000, description="number of newest releases that are kept")
    keep_monthly: bool = Field(True, description="also keep the last champion of each month")
    postgres: ConnectionString = Field(
        "",
        repr=False,
        description="PostgreSQL sink: a libpq connection string; empty: none. Set passwords in the "
        "environment (PGPASSWORD) or in ~/.pgpass, not here",
    )
    lancedb: FolderOrS3 = Field(
        "", description="LanceDB sink: folder or s3://bucket/prefix; empty: none"
    )


class AlertSettings(Section):
    """Recipients of alerts."""

    webhook: WebAddress = Field(
        "", repr=False, description="URL that receives a JSON message; empty: none"
    )
    email_to: list[MailAddress] = Field(
        default_factory=list, description="addresses that receive a mail"
    )
    email_from: MailAddress = Field("debcm@localhost", description="sender of the mails")
    smtp_host: Text = Field("localhost", description="mail server")
    smtp_port: int = Field(25, ge=1, le=65535, description="its port")
    ui_url: WebAddress = Field(
        "http://127.0.0.1:8080", description="address of the Airflow UI, for links in alerts"
    )


class ScheduleSettings(Section):
    """Schedules of the DAGs; read when Airflow parses the dags folder."""

    nightly: DailyCron = Field(
        "0 2 * * *", description="daily cron expression, UTC: media_features of the day before"
    )
    upkeep: DailyCron = Field("0 12 * * *", description="daily cron expression, UTC: lake_upkeep")
    owner: Text = Field("data-platform", description="owner shown in the UI")
    approval: bool = Field(
        False, description="whether a person must approve each release in the UI"
    )
    deadline_hours: float = Field(
        8,
        gt=0,
        le=168,
        description="hours after which a nightly run is late; above landing.wait_hours",
    )


def _normalised(genre: str) -> str:
    return genre.strip().lower()
