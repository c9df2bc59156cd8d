from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.environment import cache_folder


def test_the_cache_folder_is_set_or_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("DEBCM_CACHE")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/debcm")


@pytest.mark.parametrize(("before", "after"), [(None, "/somewhere/numba"), ("/own", "/own")])
def test_importing_features_sets_what_libraries_read(before: str | None, after: str) -> None:
    names = {"NUMBA_CACHE_DIR", "ORT_DISABLE_TELEMETRY"}
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"DEBCM_CACHE": "/somewhere"} | ({"NUMBA_CACHE_DIR": before} if before else {})
    script = (
        "import os, features\n"
        "print(os.environ['NUMBA_CACHE_DIR'], os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    printed = subprocess.check_output([sys.executable, "-c", script], env=env, text=True)
    assert printed.split() == [after, "1"]
