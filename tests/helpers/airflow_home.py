"""Sets a temporary Airflow home for the tests; import this module before Airflow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pipeline.orchestration.local_airflow import environment

# Airflow reads these variables once, when it is first imported.
HOME = tempfile.TemporaryDirectory(prefix="debcm-tests-airflow-")
os.environ.update(environment(home=Path(HOME.name)))
