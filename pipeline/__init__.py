"""The steps of the nightly run: they read tables and write tables."""

import sys

import pipeline.environment  # noqa: F401 (before every library)
from pipeline.moved import MovedModules

sys.meta_path.append(MovedModules())
