"""Bundles what a step works with: the settings, and the lake and store that they name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.lake.tables import Lake
    from pipeline.settings.load import Settings
    from pipeline.storage.store import Store

# Methods import what they need: `debcm --help` must not wait for the models of the settings, nor a
# message about an invalid setting for the table engine and pyarrow, which take seconds.


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
        from pipeline.settings.load import load_settings

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
        from pipeline.lake.tables import Lake

        return Lake(self.settings.lake)

    @cached_property
    def store(self) -> Store:
        """The folders: datasets, models, evaluations, releases, reports."""
        from pipeline.storage.store import Store

        return Store(self.settings.lake)
