"""Loads the settings from a TOML file and environment variables.

The file is `$DEBCM_CONFIG`; without that variable, `debcm.toml` in the working folder if it exists.
An environment variable `DEBCM_<SECTION>__<FIELD>` overrides one field of the file. Unknown keys are
errors. Relative paths are relative to the folder of the file. docs/configuration.md is generated
from `Settings`.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as UnreadableVariableError

from features.config import AudioConfig, Limits, VisualConfig
from models.config import ModelConfig
from pipeline.errors import Permanent
from pipeline.settings.names import describe_error, describe_errors, unknown_variables
from pipeline.settings.paths import PathError, with_absolute_paths
from pipeline.settings.sections import (
    AlertSettings,
    CandidateExtractor,
    ExtractSettings,
    GateSettings,
    GenreSettings,
    LakeSettings,
    LandingSettings,
    ReleaseSettings,
    ScheduleSettings,
    SplitSettings,
)

log = logging.getLogger(__name__)


class SettingsError(Permanent):
    """The settings file or an environment variable is invalid."""

    remedy = "Correct it; docs/configuration.md lists every field with its type and default."


class Settings(BaseSettings):
    """All settings: one field per section, and the seed."""

    model_config = SettingsConfigDict(
        env_prefix="DEBCM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        # A webhook URL or a connection string is a secret.
        hide_input_in_errors=True,
    )

    seed: int = Field(0, ge=0, lt=2**31, description="seed of all random numbers")
    lake: LakeSettings = LakeSettings()
    landing: LandingSettings = LandingSettings()
    genres: GenreSettings = GenreSettings()
    limits: Limits = Limits()
    visual: VisualConfig = VisualConfig()
    audio: AudioConfig = AudioConfig()
    candidates: dict[str, CandidateExtractor] = Field(
        default_factory=dict, description="other extractors that feature_backfill can run, by name"
    )
    extract: ExtractSettings = ExtractSettings()
    split: SplitSettings = SplitSettings()
    model: ModelConfig = ModelConfig()
    gate: GateSettings = GateSettings()
    release: ReleaseSettings = ReleaseSettings()
    alerts: AlertSettings = AlertSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    @field_validator("candidates")
    @classmethod
    def _candidates_have_names(
        cls, candidates: dict[str, CandidateExtractor]
    ) -> dict[str, CandidateExtractor]:
        for name in candidates:
            if name == "current" or not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    f"{name!r} cannot name a candidate: use letters, digits, '_', '.' and '-'; "
                    "'current' is reserved"
                )
        return candidates

    @model_validator(mode="after")
    def _one_seed(self) -> Settings:
        if "seed" in self.model.model_fields_set:
            raise ValueError("model.seed is not used: set `seed` at the top level")
        return self

    def with_extractor(self, name: str) -> Settings:
        """Return the settings with the extractors of a candidate.

        Args:
            name: a name of `[candidates]`, or "current" for these settings.

        Raises:
            SettingsError: `[candidates]` has no such name.
        """
        if name == "current":
            return self
        if name not in self.candidates:
            known = ", ".join(["current", *self.candidates])
            raise SettingsError(
                f"There is no extractor {name!r}, only: {known}", where="[candidates]"
            )
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
        """Return the sources: environment variables override the TOML file."""
        file = settings_file()
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def settings_file() -> Path | None:
    """Return the path of the TOML file, or None if there is none.

    Raises:
        SettingsError: `$DEBCM_CONFIG` names a file that does not exist.
    """
    named = os.environ.get("DEBCM_CONFIG")
    try:
        file = Path(named).expanduser() if named else Path("debcm.toml")
    except RuntimeError as error:
        raise SettingsError(f"$DEBCM_CONFIG cannot be used: {error}", where=str(named)) from error
    if file.is_file():
        return file.resolve()
    if named:
        raise SettingsError("$DEBCM_CONFIG names a file that does not exist", where=named)
    return None


def load_settings(**overrides: Any) -> Settings:
    """Load the settings.

    Args:
        overrides: values that override file and environment, by section name.

    Raises:
        SettingsError: a field is unknown, of the wrong type or out of range, or the file cannot be
            read. The message names the file or variable, and every such field.
    """
    file = settings_file()
    if unknown := unknown_variables(Settings):
        raise SettingsError("Environment variables that are not settings", where=", ".join(unknown))
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(describe_errors(error, Settings, file)) from error
    except UnreadableVariableError as error:
        json = """write lists and tables as JSON: '["a", "b"]', '{"a": "b"}'"""
        raise SettingsError(f"{error}; {json}", where="environment") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file is not valid TOML: {error}", where=str(file)) from error
    except OSError as error:
        raise SettingsError(
            f"The file cannot be read: {error.strerror}", where=str(file)
        ) from error
    try:
        settings = with_absolute_paths(settings, file.parent if file else Path.cwd())
    except PathError as error:
        raise SettingsError(describe_error(error.location, str(error), file)) from error
    _warn_if_waits_are_late(settings.landing.wait_hours, settings.schedule.deadline_hours)
    return settings


@cache
def _warn_if_waits_are_late(wait: float, deadline: float) -> None:
    """Warn once per process: every step loads the settings."""
    if wait >= deadline:
        log.warning(
            "landing.wait_hours (%g) is not below schedule.deadline_hours (%g): every night that "
            "waits for its delivery is also reported as late. Lower the first or raise the second.",
            wait,
            deadline,
        )
