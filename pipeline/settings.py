"""The one typed model of the settings: a TOML file, environment variables over it.

The file is `$DEBCM_CONFIG`, or `debcm.toml` in the working folder where that exists. A variable
`DEBCM_<SECTION>__<FIELD>` replaces one field. Unknown keys are errors. Relative paths are
relative to the file that names them. docs/configuration.md is generated from this module.
"""

from __future__ import annotations

import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from features.config import AudioConfig, Limits, VisualConfig
from models.config import ModelConfig
from pipeline.errors import Permanent

Share = Annotated[float, Field(ge=0, le=1)]
# What all who speak to object storage take: the tables' log, the files, the pointers.
_STORAGE_OPTIONS = ("aws_endpoint_url", "aws_region", "aws_allow_http")
_Model = TypeVar("_Model", bound=BaseModel)

# The genres that music services name most, in the six groups of the paper's data set.
GENRE_GROUPS = {
    "pop": ["pop", "indie pop", "synthpop", "k-pop", "j-pop", "dance pop"],
    "rock": ["rock", "metal", "punk", "industrial rock", "alternative", "indie rock"],
    "electronic": ["electronic", "techno", "house", "trance", "synth", "edm", "drum and bass"],
    "hiphop": ["hiphop", "hip hop", "hip-hop", "rap", "r&b", "rnb", "soul", "funk"],
    "classical": ["classical", "orchestral", "ambient", "soundtrack", "piano", "instrumental"],
    "folk": ["folk", "world", "country", "acoustic", "jazz", "blues", "latin", "reggae"],
}


class SettingsError(Permanent):
    """The settings file or an environment variable is wrong."""

    remedy = "docs/configuration.md lists every field with its type and default."


class Section(BaseModel):
    """A section of the settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LakeSettings(Section):
    """Where the tables, runs and releases live."""

    root: str = Field(
        "lake",
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
        7, ge=0, description="days that old versions of tables stay readable before upkeep"
    )
    commit_attempts: int = Field(
        20, ge=1, description="tries of a commit that meets another writer's, before giving up"
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

    root: Path = Field(Path("landing"), description="folder that holds the dt=YYYY-MM-DD days")
    wait_hours: float = Field(6, ge=0, description="hours the night waits for `_SUCCESS`")
    reject_share: Share = Field(
        0.25, description="share of a day's rows that may be rejected before the day fails"
    )
    clock_tolerance_hours: float = Field(
        24, ge=0, description="hours an upload may be dated after the end of its landing day"
    )
    lookback_days: int = Field(
        7, ge=0, description="landing days back from tonight that are checked for late changes"
    )


class GenreSettings(Section):
    """Which genres form a group; a genre in none of them belongs to `other`."""

    groups: dict[str, list[str]] = Field(
        default=GENRE_GROUPS, description="group -> genres, compared in lower case"
    )

    @field_validator("groups")
    @classmethod
    def _each_genre_once(cls, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        genres = [genre.lower() for members in groups.values() for genre in members]
        twice = sorted({genre for genre in genres if genres.count(genre) > 1})
        if twice or "other" in groups or any("," in group for group in groups):
            raise ValueError(f"genres in two groups: {twice}; 'other' and ',' are reserved")
        return groups

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The groups in the order that indexes preference vectors; `other` is last."""
        return (*self.groups, "other")

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {genre.lower(): group for group, members in self.groups.items() for genre in members}

    def group(self, genre: str) -> str:
        """The group of a genre as the platform spells it."""
        return self._group_of.get(genre.strip().lower(), "other")


class ExtractSettings(Section):
    """How a day's clips are cut into shards and extracted."""

    workers: int = Field(2, ge=1, description="decoding child processes of one task")
    shard_cpu_seconds: float = Field(
        600, gt=0, description="expected decode cost of a shard (start-up: under 5 % of it)"
    )
    max_shards: int = Field(
        64, ge=1, description="shards of one day; larger days get larger shards"
    )
    commit_clips: int = Field(
        200, ge=1, description="clips between commits: what a killed shard loses at most"
    )
    max_attempts: int = Field(2, ge=1, description="times a failing file is tried in all")
    segment_seconds: float = Field(
        10, gt=0, description="length of a segment of a professional music video"
    )
    min_segment_seconds: float = Field(
        3, gt=0, description="a shorter rest at the end of a music video is left out"
    )


class Candidate(Section):
    """An extractor that a backfill can make beside the current one."""

    visual: VisualConfig | None = Field(None, description="in place of [visual]; none: the same")
    audio: AudioConfig | None = Field(None, description="in place of [audio]; none: the same")


class SplitSettings(Section):
    """The split by time, of the picks ordered by their upload."""

    validation_share: Share = Field(0.1, description="share of the picks before the test rows")
    test_share: Share = Field(0.1, description="share of the picks, the newest ones")


class GateSettings(Section):
    """The rules a challenger must pass before it is published."""

    min_test_rows: int = Field(50, ge=1, description="test rows below which nothing is published")
    bootstrap_rounds: int = Field(1000, ge=100, description="rounds of the paired bootstrap")
    recall_k: int = Field(10, ge=1, description="K of the recall that is judged")
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
    keep: int = Field(14, ge=2, description="newest releases kept")
    keep_monthly: bool = Field(True, description="also keep the last champion of each month")
    postgres: str = Field(
        "",
        description="PostgreSQL sink: a libpq connection string; empty: none. Passwords belong in "
        "the environment (PGPASSWORD) or in ~/.pgpass, not here",
    )
    lancedb: str = Field("", description="LanceDB sink: folder or s3://bucket/prefix; empty: none")


class AlertSettings(Section):
    """Whom the pipeline wakes up, and how."""

    webhook: str = Field("", description="URL that gets a JSON message; empty: none")
    email_to: list[str] = Field(default_factory=list, description="addresses that get a mail")
    email_from: str = Field("debcm@localhost", description="sender of the mails")
    smtp_host: str = Field("localhost", description="mail server")
    smtp_port: int = Field(25, ge=1, le=65535, description="its port")
    ui_url: str = Field("http://127.0.0.1:8080", description="where the Airflow UI is reached")


class ScheduleSettings(Section):
    """When the DAGs run; read when the dags folder is parsed."""

    nightly: str = Field("0 2 * * *", description="cron, UTC: features of the day before")
    upkeep: str = Field("0 12 * * *", description="cron, UTC: lake upkeep")
    owner: str = Field("data-platform", description="owner shown in the UI")
    approval: bool = Field(False, description="a person approves each release in the UI")
    deadline_hours: float = Field(5, gt=0, description="hours after which a night is late")


class Settings(BaseSettings):
    """All settings, one field a section."""

    model_config = SettingsConfigDict(
        env_prefix="DEBCM_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    seed: int = Field(0, description="the one seed that all randomness comes from")
    lake: LakeSettings = LakeSettings()
    landing: LandingSettings = LandingSettings()
    genres: GenreSettings = GenreSettings()
    limits: Limits = Limits()
    visual: VisualConfig = VisualConfig()
    audio: AudioConfig = AudioConfig()
    candidates: dict[str, Candidate] = Field(
        default_factory=dict, description="extractors for feature_backfill, by name"
    )
    extract: ExtractSettings = ExtractSettings()
    split: SplitSettings = SplitSettings()
    model: ModelConfig = ModelConfig()
    gate: GateSettings = GateSettings()
    release: ReleaseSettings = ReleaseSettings()
    alerts: AlertSettings = AlertSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    @model_validator(mode="after")
    def _room_for_training(self) -> Settings:
        if self.split.validation_share + self.split.test_share >= 0.9:
            raise ValueError("split: validation_share + test_share leave too little to train on")
        return self

    def with_extractor(self, name: str) -> Settings:
        """These settings with a candidate's extractors in force ("current": as they are).

        Raises:
            SettingsError: [candidates] has no such name.
        """
        if name == "current":
            return self
        if name not in self.candidates:
            known = ", ".join(["current", *self.candidates])
            raise SettingsError(f"no extractor {name!r}; there are: {known}", where="candidates")
        candidate = self.candidates[name]
        return self.model_copy(
            update={
                "visual": candidate.visual or self.visual,
                "audio": candidate.audio or self.audio,
            }
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment variables win over the TOML file."""
        file = settings_file()
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def settings_file() -> Path | None:
    """The TOML file in force, or None where there is none.

    Raises:
        SettingsError: `$DEBCM_CONFIG` names a file that does not exist.
    """
    named = os.environ.get("DEBCM_CONFIG")
    file = Path(named) if named else Path("debcm.toml")
    if file.is_file():
        return file.resolve()
    if named:
        raise SettingsError("$DEBCM_CONFIG names a file that does not exist", where=named)
    return None


def load_settings(**overrides: Any) -> Settings:
    """The settings in force, with `overrides` (section name -> dict) over file and environment.

    Raises:
        SettingsError: naming the file and each field that is unknown, mistyped or out of range.
    """
    file = settings_file()
    where = str(file or "environment")
    _refuse_unknown_variables()
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise SettingsError(faults, where=where) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not valid TOML: {error}", where=where) from error
    return _anchor(settings, file.parent if file else Path.cwd())


def _refuse_unknown_variables() -> None:
    # pydantic-settings looks up the variables it knows and never sees a misspelt one.
    known = {"DEBCM_CONFIG", "DEBCM_CACHE", "DEBCM_HOME"}
    known |= {f"DEBCM_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("DEBCM_") and name.split("__")[0].upper() not in known
    )
    if unknown:
        raise SettingsError("unknown variables", where=", ".join(unknown))


def _anchor(settings: Settings, folder: Path) -> Settings:
    """The settings with every relative path made absolute."""

    def absolute(path: Path) -> Path:
        return (folder / path.expanduser()).resolve()

    def place(text: str) -> str:
        return text if not text or "://" in text else str(absolute(Path(text)))

    def located(config: Any) -> Any:
        if config is None or config.encoder is None:
            return config
        encoder = _changed(config.encoder, path=absolute(config.encoder.path))
        return _changed(config, encoder=encoder)

    return _changed(
        settings,
        lake=_changed(settings.lake, root=place(settings.lake.root)),
        landing=_changed(settings.landing, root=absolute(settings.landing.root)),
        release=_changed(settings.release, lancedb=place(settings.release.lancedb)),
        visual=located(settings.visual),
        audio=located(settings.audio),
        candidates={
            name: _changed(each, visual=located(each.visual), audio=located(each.audio))
            for name, each in settings.candidates.items()
        },
    )


def _changed(model: _Model, **values: object) -> _Model:
    return model.model_copy(update=values)
