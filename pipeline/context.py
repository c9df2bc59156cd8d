"""What a step works with: the settings in force, and the lake and the store that they name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings, load_settings
from pipeline.storage.store import Store


@dataclass(frozen=True)
class Context:
    """Settings, with the tables and folders of their lake, each opened on first use."""

    settings: Settings

    @classmethod
    def load(cls) -> Context:
        """Return the context of the settings in force.

        Raises:
            SettingsError: the settings file or an environment variable is wrong.
        """
        return cls(load_settings())

    def with_extractor(self, name: str) -> Context:
        """Return the context with another extractor: "current", or a name of `[candidates]`.

        Raises:
            SettingsError: there is no such extractor.
        """
        return Context(self.settings.with_extractor(name))

    @cached_property
    def lake(self) -> Lake:
        """The tables."""
        return Lake(self.settings.lake)

    @cached_property
    def store(self) -> Store:
        """The folders: datasets, models, evaluations, releases, reports."""
        return Store(self.settings.lake)
