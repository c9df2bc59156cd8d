"""The steps of the pipeline; each reads tables and writes tables."""

from __future__ import annotations

import sys

import pipeline.environment  # noqa: F401 (must come before any library)
from pipeline.moved import MovedModules

sys.meta_path.append(MovedModules())
