"""Bundles what a step works with: the settings, and the lake and store that they name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings, load_settings
from pipeline.storage.store import Store


@dataclass(frozen=True)
class Context:
    """Settings, and the tables and folders of their lake, which are opened on first use.

    Attributes:
        settings: all settings.
    """

    settings: Settings

    @classmethod
    def load(cls) -> Context:
        """Return the context of the current settings.

        Raises:
            SettingsError: the settings file or an environment variable is invalid.
        """
        return cls(load_settings())

    def with_extractor(self, name: str) -> Context:
        """Return a context with other extractors.

        Args:
            name: a name of `[candidates]`, or "current" for the same extractors.

        Raises:
            SettingsError: `[candidates]` has no such name.
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
