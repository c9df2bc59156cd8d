"""The sections of the settings: every field with its type, range, default and meaning."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from features.config import AudioConfig, VisualConfig
from pipeline.settings.values import (
    GENRE_GROUPS,
    ConnectionString,
    Folder,
    MailAddress,
    OnceADay,
    Place,
    Share,
    SomeShare,
    Text,
    WebAddress,
)

# What all who speak to object storage take: the tables' log, the files, the pointers.
_STORAGE_OPTIONS = ("aws_endpoint_url", "aws_region", "aws_allow_http")


class Section(BaseModel):
    """A section of the settings: frozen, closed to unknown keys and to numbers without end."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class LakeSettings(Section):
    """Where the tables, runs and releases live."""

    root: Place = Field(
        "lake",
        min_length=1,
        description="folder, or s3://bucket/prefix; the first ingest makes the folder, but takes "
        "an empty one for a disk that is not mounted",
    )
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        description="of object storage: aws_endpoint_url, aws_region, aws_allow_http; an endpoint "
        'without TLS (http://) needs aws_allow_http = "true" beside it; credentials belong in '
        "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), not here",
    )
    keep_versions_days: float = Field(
        7, ge=0, le=3650, description="days that old versions of tables stay readable before upkeep"
    )
    commit_attempts: int = Field(
        20,
        ge=1,
        le=1000,
        description="tries of a commit that meets another writer's, before giving up",
    )

    @field_validator("storage_options")
    @classmethod
    def _known_options(cls, options: dict[str, str]) -> dict[str, str]:
        for name in options.keys() - set(_STORAGE_OPTIONS):
            raise ValueError(f"{name}: unknown, there are {', '.join(_STORAGE_OPTIONS)}")
        return options

    @model_validator(mode="after")
    def _plain_http_is_meant(self) -> LakeSettings:
        # The tables' storage layer would refuse it in words that name no setting.
        options = self.storage_options
        endpoint = options.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL", "")
        allowed = options.get("aws_allow_http") or os.environ.get("AWS_ALLOW_HTTP", "")
        remote = self.root.startswith("s3://") and endpoint.startswith("http://")
        if remote and allowed.lower() not in {"true", "1"}:
            raise ValueError(
                f"the endpoint {endpoint} has no TLS: name one that begins with https://, or allow "
                'it by storage_options = {aws_allow_http = "true", ...}'
            )
        return self


class LandingSettings(Section):
    """The landing folder and how far it is trusted."""

    root: Folder = Field(Path("landing"), description="folder that holds the dt=YYYY-MM-DD days")
    wait_hours: float = Field(6, ge=0, le=168, description="hours the night waits for `_SUCCESS`")
    reject_share: Share = Field(
        0.25, description="share of a day's rows that may be rejected before the day fails"
    )
    clock_tolerance_hours: float = Field(
        24,
        ge=0,
        le=8760,
        description="hours an upload may be dated after the end of its landing day",
    )
    lookback_days: int = Field(
        7,
        ge=1,
        le=366,
        description="landing days back from tonight that are checked for late changes",
    )


class GenreSettings(Section):
    """Which genres form a group; a genre in none of them belongs to `other`."""

    groups: dict[str, list[str]] = Field(
        default=GENRE_GROUPS, min_length=1, description="group -> genres, compared in lower case"
    )

    @field_validator("groups")
    @classmethod
    def _each_genre_once(cls, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        for group, members in groups.items():
            if not group.strip() or "," in group or group.strip().lower() == "other":
                raise ValueError(f"{group!r} is no name of a group: 'other' and ',' are reserved")
            if not members:
                raise ValueError(f"group {group!r} has no genres")
        genres = [_spelling(genre) for members in groups.values() for genre in members]
        twice = sorted({genre for genre in genres if genres.count(genre) > 1})
        if twice:
            raise ValueError(f"genres in two groups, or twice in one: {', '.join(twice)}")
        return groups

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The groups in the order that indexes preference vectors; `other` is last."""
        return (*self.groups, "other")

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {
            _spelling(genre): group for group, members in self.groups.items() for genre in members
        }

    def group(self, genre: str) -> str:
        """The group of a genre as the platform spells it."""
        return self._group_of.get(_spelling(genre), "other")


class ExtractSettings(Section):
    """How a day's clips are cut into shards and extracted."""

    workers: int = Field(2, ge=1, le=256, description="decoding child processes of one task")
    shard_cpu_seconds: float = Field(
        600,
        gt=0,
        le=86_400,
        description="expected decode cost of a shard (start-up: under 5 % of it)",
    )
    max_shards: int = Field(
        64, ge=1, le=1024, description="shards of one day; larger days get larger shards"
    )
    commit_clips: int = Field(
        200,
        ge=1,
        le=100_000,
        description="clips between commits: what a killed shard loses at most",
    )
    max_attempts: int = Field(2, ge=1, le=100, description="times a failing file is tried in all")
    segment_seconds: float = Field(
        10, gt=0, le=600, description="length of a segment of a professional music video"
    )
    min_segment_seconds: float = Field(
        3, gt=0, le=600, description="a shorter rest at the end of a music video is left out"
    )

    @model_validator(mode="after")
    def _segments_can_be_cut(self) -> ExtractSettings:
        if self.min_segment_seconds > self.segment_seconds:
            raise ValueError("min_segment_seconds is above segment_seconds: no segment would do")
        return self


class CandidateExtractor(Section):
    """An extractor that a backfill can make beside the current one."""

    visual: VisualConfig | None = Field(None, description="in place of [visual]; none: the same")
    audio: AudioConfig | None = Field(None, description="in place of [audio]; none: the same")

    @model_validator(mode="after")
    def _differs(self) -> CandidateExtractor:
        if self.visual is None and self.audio is None:
            raise ValueError("neither visual nor audio: the candidate would be the current one")
        return self


class SplitSettings(Section):
    """The split by time, of the picks ordered by their upload."""

    validation_share: SomeShare = Field(0.1, description="share of the picks before the test rows")
    test_share: SomeShare = Field(0.1, description="share of the picks, the newest ones")

    @model_validator(mode="after")
    def _room_for_training(self) -> SplitSettings:
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("validation_share + test_share leave too little to train on")
        return self


class GateSettings(Section):
    """The rules a challenger must pass before it is published."""

    min_test_rows: int = Field(50, ge=1, description="test rows below which nothing is published")
    bootstrap_rounds: int = Field(
        1000, ge=100, le=1_000_000, description="rounds of the paired bootstrap"
    )
    recall_k: int = Field(10, ge=1, le=1000, description="K of the recall that is judged")
    champion_loss: Share = Field(
        0.05, description="recall the challenger may lose to the champion, as a share of it"
    )
    slice_loss: Share = Field(
        0.2, description="recall it may lose in one slice of at least slice_rows rows, as a share"
    )
    slice_rows: int = Field(50, ge=1, description="rows a slice needs to be judged")
    calibration_worsening: float = Field(
        0.1, ge=0, description="nats by which genre calibration (KL) may worsen"
    )
    max_calibration: float = Field(
        1.0, gt=0, description="nats of genre calibration (KL) that are never published"
    )
    min_coverage: Share = Field(
        0.1,
        description="share that must be recommended of the catalogue that random lists would cover",
    )
    min_spread: Share = Field(
        0.01, description="1 - squared length of the mean unit embedding; 0: all point one way"
    )
    max_norm_ratio: float = Field(
        100.0, gt=1, description="largest norm of an embedding over the median one"
    )


class ReleaseSettings(Section):
    """What is published and how long it is kept."""

    flat_index_below: int = Field(
        200_000, ge=1, description="tracks up to which the index is exact (flat); HNSW above"
    )
    index_recall_loss: Share = Field(
        0.01, description="recall@10 an approximate index may lose against exact search"
    )
    keep: int = Field(14, ge=2, le=10_000, description="newest releases kept")
    keep_monthly: bool = Field(True, description="also keep the last champion of each month")
    postgres: ConnectionString = Field(
        "",
        repr=False,
        description="PostgreSQL sink: a libpq connection string; empty: none. Passwords belong in "
        "the environment (PGPASSWORD) or in ~/.pgpass, not here",
    )
    lancedb: Place = Field(
        "", description="LanceDB sink: folder or s3://bucket/prefix; empty: none"
    )


class AlertSettings(Section):
    """Whom the pipeline wakes up, and how."""

    webhook: WebAddress = Field(
        "", repr=False, description="URL that gets a JSON message; empty: none"
    )
    email_to: list[MailAddress] = Field(
        default_factory=list, description="addresses that get a mail"
    )
    email_from: MailAddress = Field("debcm@localhost", description="sender of the mails")
    smtp_host: Text = Field("localhost", description="mail server")
    smtp_port: int = Field(25, ge=1, le=65535, description="its port")
    ui_url: WebAddress = Field(
        "http://127.0.0.1:8080", description="where the Airflow UI is reached"
    )


class ScheduleSettings(Section):
    """When the DAGs run; read when the dags folder is parsed."""

    nightly: OnceADay = Field(
        "0 2 * * *", description="cron, UTC, once a day: features of the day before"
    )
    upkeep: OnceADay = Field("0 12 * * *", description="cron, UTC, once a day: lake upkeep")
    owner: Text = Field("data-platform", description="owner shown in the UI")
    approval: bool = Field(False, description="a person approves each release in the UI")
    deadline_hours: float = Field(8, gt=0, le=168, description="hours after which a night is late")


def _spelling(genre: str) -> str:
    return genre.strip().lower()
