"""The settings in force, typed by pipeline/settings/sections.py: a TOML file, variables over it.

The file is `$DEBCM_CONFIG`, or `debcm.toml` in the working folder where that exists. A variable
`DEBCM_<SECTION>__<FIELD>` replaces one field. Unknown keys are errors. Relative paths are
relative to the file that names them. docs/configuration.md is generated from `Settings`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
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
from pipeline.settings.names import describe_errors, unknown_variables
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

_Model = TypeVar("_Model", bound=BaseModel)


class SettingsError(Permanent):
    """The settings file or an environment variable is wrong."""

    remedy = "docs/configuration.md lists every field with its type and default."


class Settings(BaseSettings):
    """All settings, one field a section."""

    model_config = SettingsConfigDict(
        env_prefix="DEBCM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        # A webhook's URL or a connection string is a secret.
        hide_input_in_errors=True,
    )

    seed: int = Field(0, ge=0, lt=2**31, description="the one seed that all randomness comes from")
    lake: LakeSettings = LakeSettings()
    landing: LandingSettings = LandingSettings()
    genres: GenreSettings = GenreSettings()
    limits: Limits = Limits()
    visual: VisualConfig = VisualConfig()
    audio: AudioConfig = AudioConfig()
    candidates: dict[str, CandidateExtractor] = Field(
        default_factory=dict, description="extractors for feature_backfill, by name"
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
                raise ValueError(f"{name!r} cannot name a candidate: 'current' is the one in force")
        return candidates

    @model_validator(mode="after")
    def _one_seed(self) -> Settings:
        if "seed" in self.model.model_fields_set:
            raise ValueError("model.seed is not read: set `seed` at the top level")
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
        SettingsError: `$DEBCM_CONFIG` names no file.
    """
    named = os.environ.get("DEBCM_CONFIG")
    file = Path(named).expanduser() if named else Path("debcm.toml")
    if file.is_file():
        return file.resolve()
    if named:
        raise SettingsError("$DEBCM_CONFIG names no file", where=named)
    return None


def load_settings(**overrides: Any) -> Settings:
    """The settings in force, with `overrides` (section name -> dict) over file and environment.

    Raises:
        SettingsError: naming the file or variable and each field that is unknown, mistyped or out
            of range.
    """
    file = settings_file()
    if unknown := unknown_variables(Settings):
        raise SettingsError("not a setting", where=", ".join(unknown))
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(describe_errors(error, Settings, file)) from error
    except UnreadableVariableError as error:
        json = """lists and tables are JSON in a variable: '["a", "b"]', '{"a": "b"}'"""
        raise SettingsError(f"{error}: {json}", where="environment") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"not valid TOML: {error}", where=str(file)) from error
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", where=str(file)) from error
    return _anchor(settings, file.parent if file else Path.cwd())


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
