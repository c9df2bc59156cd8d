from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features import EncoderError, VisualConfig
from features.networks import export


def test_many_processes_export_the_packaged_network_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from features import VisualConfig\n"
        "from features.networks import export\n"
        "def fake(target):\n"
        "    time.sleep(0.3)\n"
        "    with (target.parent / 'count').open('a') as count: count.write('x')\n"
        "    target.write_bytes(b'network')\n"
        "export._export = fake\n"
        "assert export.ensure_encoder(VisualConfig()).read_bytes() == b'network'\n"
    )
    env = os.environ | {"DEBCM_CACHE": str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", script], env=env) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "x"


def test_a_cache_folder_that_is_not_writable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEBCM_CACHE", str(tmp_path / "file"))
    with pytest.raises(EncoderError, match=rf"{tmp_path}/file is not writable: .*\n.*DEBCM_CACHE"):
        export.ensure_encoder(VisualConfig())
